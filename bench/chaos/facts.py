"""What is known at the end: from the platform's database on one side, from the witness's file on the other."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.chaos import oracle
from bench.chaos.arena import Arena
from bench.chaos.oracle import Step
from bench.chaos.orders import CADENCE, Order, Shop

LIVE = ("starting", "running", "stopping", "finalizing")
WITH_FILE = ("succeeded", "stopped")


@dataclass(frozen=True, slots=True)
class AttemptFacts:
    """Hold one attempt as the platform wrote it down; times by the wall clock, `billed` None without a bill."""

    fence: int
    outcome: str
    started: float
    ended: float | None
    first_step: int
    billed: float | None
    useful: bool

    @property
    def seconds(self) -> float:
        return (self.ended or self.started) - self.started


@dataclass(frozen=True, slots=True)
class JobFacts:
    """Hold one training as the platform wrote it down. `steps` are those of its loss curve."""

    uid: str
    name: str
    model: str
    may_end: tuple[str, ...]
    state: str
    step: int
    total_steps: int
    crashes: int
    last_seq: int
    seqs: list[int]
    curve: list[int]
    attempts: list[AttemptFacts]
    bills: int
    versions: int
    weights: str  # a digest of the finished file's tensors, "" without a file


@dataclass(frozen=True, slots=True)
class Facts:
    """Hold everything the checks look at."""

    jobs: list[JobFacts]
    quiet: dict[str, str]  # model -> digest of an undisturbed run
    steps: dict[str, list[Step]]  # job -> its steps, in the order in which they were written down
    held: int
    used: int  # GPU seconds that the teams were charged
    leases: int
    open_attempts: int
    reservations: int
    waiting_letters: int
    folders: list[str]
    web_answers: bool
    lease: float
    engine_lease: float
    cadence: int
    full: list[tuple[float, float]] = field(default_factory=list)


def gather(
    arena: Arena, shop: Shop, orders: list[Order], quiet: list[Order], full: list[tuple[float, float]]
) -> Facts:
    """Read everything, once all is quiet."""
    from billing.balances import balances_of
    from billing.models import Account
    from core.models import OutboxMessage
    from training.models import Attempt, TrainingJob, Worker

    steps: dict[str, list[Step]] = {}
    for step in oracle.read(arena.log):
        steps.setdefault(step.job, []).append(step)
    balances = [balances_of(team) for team in shop.teams]
    held = (Account.HELD_ALLOWANCE, Account.HELD_BOUGHT, Account.HELD_OVERAGE)
    runs = Path(arena.var / "runs")
    return Facts(
        jobs=[_job(order) for order in orders],
        quiet={order.model: weights_of(order.job) for order in quiet},
        steps=steps,
        held=sum(abs(balance[account]) for balance in balances for account in held),
        used=sum(balance[Account.USED] for balance in balances),
        leases=TrainingJob.unscoped.exclude(lease_until=None).count(),
        open_attempts=Attempt.unscoped.filter(ended_at=None).count(),
        reservations=Worker.objects.filter(reserved_for__isnull=False).count(),
        waiting_letters=OutboxMessage.objects.filter(actor="mail_outcome", done_at=None).count(),
        folders=sorted(path.name for path in runs.glob("trn_*")),
        web_answers=arena.status() == 200,
        lease=float(arena.timing.lease),
        engine_lease=float(arena.timing.engine),
        cadence=CADENCE,
        full=full,
    )


def _job(order: Order) -> JobFacts:
    from billing.models import UsageEntry
    from projects.models import LoraVersion
    from training.models import Attempt, JobEvent, MetricChunk, TrainingJob

    team = order.job.team
    row: Any = TrainingJob.objects.for_team(team).get(pk=order.job.pk)
    mine = {"job": row}
    bills = {each.attempt: each for each in UsageEntry.objects.for_team(team).filter(job_uid=row.uid)}
    attempts = []
    for each in Attempt.objects.for_team(team).filter(**mine).order_by("fence"):
        bill = bills.get(each.fence)
        attempts.append(
            AttemptFacts(
                fence=each.fence,
                outcome=each.outcome,
                started=each.started_at.timestamp(),
                ended=each.ended_at.timestamp() if each.ended_at else None,
                first_step=each.first_step,
                billed=bill.seconds if bill else None,
                useful=bool(bill and bill.useful),
            )
        )
    chunks = MetricChunk.objects.for_team(team).filter(**mine, metric="loss").order_by("chunk")
    return JobFacts(
        uid=row.uid,
        name=order.name,
        model=order.model,
        may_end=order.ends,
        state=row.state,
        step=row.step,
        total_steps=row.total_steps,
        crashes=row.crashes,
        last_seq=row.last_seq,
        seqs=list(
            JobEvent.objects.for_team(team).filter(**mine).order_by("seq").values_list("seq", flat=True)
        ),
        curve=[step for chunk in chunks for step in chunk.steps],
        attempts=attempts,
        bills=len(bills),
        versions=LoraVersion.objects.for_team(team).filter(training_uid=row.uid).count(),
        weights=weights_of(row) if row.state in WITH_FILE else "",
    )


def weights_of(job: Any) -> str:
    """Return a digest of every tensor of a finished file, names included."""
    from tests.training.engines import weights

    digest = hashlib.sha256()
    for name, content in sorted(weights(job).items()):
        digest.update(name.encode() + b"\0" + content)
    return digest.hexdigest()
