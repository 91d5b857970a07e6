"""The trainings of a chaos, and what their people want of them: most shall end well, some are paused, some ended."""

from __future__ import annotations

import contextlib
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.chaos.patience import steadily

CADENCE = 12
# Of a hundred jobs so many are paused and resumed, canceled, or stopped and kept; so many are of the real demo model.
PAUSED, CANCELED, STOPPED, DEMO = 8, 5, 5, 6
# So many of a hundred come later, from a team whose jobs may take the place of the others'.
PREEMPTING = 10
LEAST_DEMO = 10


@dataclass
class Order:
    """Hold one training and what its people want: "" for a good end, else `pause`, `cancel` or `stop` at a step."""

    name: str
    model: str
    wish: str = ""
    at_step: int = 0
    is_late: bool = False
    job: Any = None
    wished: bool = False  # the platform took the wish
    resumed: bool = False

    @property
    def ends(self) -> tuple[str, ...]:
        """Return the states it may end in."""
        if self.wished and self.wish == "cancel":
            return ("canceled",)
        if self.wished and self.wish == "stop":
            return ("stopped",)
        return ("succeeded",)


def make_orders(jobs: int, steps: int, dice: random.Random) -> list[Order]:
    """Draw the orders of a chaos of so many jobs."""
    demo = max(LEAST_DEMO, jobs * DEMO // 100) if jobs >= 40 else jobs // 8
    orders = [Order(f"job {number:03d}", "demo" if number < demo else "tiny") for number in range(jobs)]
    plain = orders[demo:]
    dice.shuffle(plain)
    for wish, share in (("pause", PAUSED), ("cancel", CANCELED), ("stop", STOPPED)):
        for _ in range(max(1, jobs * share // 100) if jobs > 4 else 0):
            order = plain.pop()
            order.wish, order.at_step = wish, dice.randint(2, steps // 2)
    for _ in range(jobs * PREEMPTING // 100):
        plain.pop().is_late = True
    dice.shuffle(orders)
    return orders


class Shop:
    """The teams, base models and pictures, and the front doors for what people do."""

    def __init__(self, var: Path, steps: int) -> None:
        self.steps = steps
        self._make_plans()
        from tests.factories import TeamFactory, make_member
        from tests.training.engines import Studio, make_tiny_base
        from tests.training.rows import make_base

        make_tiny_base(var / "tiny")
        bases = {
            "tiny": make_base(key="tiny", path=str(var / "tiny"), memory_mb=0),
            "demo": make_base(key="demo", path="base", memory_mb=0),
        }
        from accounts.roles import Role

        self.studios = {}
        for key in ("pro", "team"):
            actor = make_member(TeamFactory(name=key, slug=f"chaos-{key}"), Role.OWNER)
            self._account(actor.team, key)
            self.studios[key] = Studio(actor, base=bases["tiny"])
        self.bases = bases

    @property
    def teams(self) -> list[Any]:
        return [studio.actor.team for studio in self.studios.values()]

    @staticmethod
    def _make_plans() -> None:
        """Let both plans run as much as they like, metered, and the larger one take places at once."""
        from billing.models import Plan
        from training.models import QueueSettings

        free = (
            "running_trainings",
            "queued_trainings",
            "trainings_a_month",
            "steps_per_training",
            "stored_bytes",
        )
        Plan.objects.filter(key__in=["pro", "team"]).update(
            gpu_seconds_a_month=10**8,
            **dict.fromkeys(free),  # type: ignore[arg-type]
        )
        QueueSettings.objects.update_or_create(
            pk=1,
            defaults={"preempt_after": 2, "preempt_if_free_within": 0, "least_run": 4, "least_left": 4},
        )

    @staticmethod
    def _account(team: Any, plan: str) -> None:
        from billing.models import BillingAccount, Plan

        BillingAccount.objects.create(team=team, plan=Plan.objects.get(key=plan))

    def queue(self, order: Order) -> None:
        """Queue the training of an order, once, however often the database goes away meanwhile."""
        steadily(lambda: self._queue(order))

    def _queue(self, order: Order) -> None:
        from django.db import transaction

        from training.models import TrainingJob
        from training.services.jobs import create_job

        studio = self.studios["team" if order.is_late else "pro"]
        rows = TrainingJob.objects.for_team(studio.actor.team)
        order.job = rows.filter(name=order.name).first()
        if order.job is not None:  # the answer was lost, the job was not
            return
        with transaction.atomic():
            order.job = create_job(
                actor=studio.actor,
                dataset_version=studio.version,
                foundation_model=self.bases[order.model],
                template="style",
                name=order.name,
                trigger="ink style",
                settings={
                    "training.steps": self.steps,
                    "training.batch_size": 2,
                    "checkpoint.every_steps": CADENCE,
                    "sampling.every_steps": self.steps,
                    "sampling.steps": 2,
                },
                # Pictures on the way cost seconds: the sample alone draws them.
                prompts=["a cat, {trigger}"] if order.model == "demo" else [],
            )
            # One thread each, as if an attempt before had measured it: all add up in the same order.
            rows.filter(pk=order.job.pk).update(threads=1)

    def wish(self, order: Order, state: str, step: int) -> None:
        """Do what the order's people want now, if it is time; the platform may refuse."""
        from core.errors import Conflict
        from training.services import control

        actor = self.studios["team" if order.is_late else "pro"].actor
        with contextlib.suppress(Conflict):
            if order.wish == "pause" and order.wished and not order.resumed:
                if state == "paused":
                    steadily(lambda: control.resume_job(actor=actor, job=order.job))
                    order.resumed = True
            elif order.wish and not order.wished and state == "running" and step >= order.at_step:
                ask = {"pause": control.pause_job, "cancel": control.cancel_job, "stop": control.stop_job}
                steadily(lambda: ask[order.wish](actor=actor, job=order.job))
                order.wished = True
