"""Claim from queues of 1 000, 10 000 and 100 000 jobs with 2 and 8 workers at once: `python -m bench.claims`.

Speed: claims a second, and milliseconds of one (middle and 99th percentile). Exactness, with a check of each claim
under the lock: was it the job that the whole queue, ordered by the policy, has first; was any job given twice; did a
team ever run more than its plan allows. The same check without the lock must find faults, or it could find none.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "platform")]

if TYPE_CHECKING:
    from training.models import Worker
    from training.queue.claim import Lease

TEAMS = 200
SIZES = (1_000, 10_000, 100_000)
CLAIMERS = (2, 8)
TIMED = 150  # claims of each process
CHECKED = 60
GPU_MB = 81_559


def fill(jobs: int) -> None:
    """Queue so many jobs of two hundred teams on all plans, with all sizes of GPUs; few teams have most of them.

    One in eight is short work, one in twenty express.
    """
    from django.utils import timezone

    from accounts.roles import Role
    from billing.models import BillingAccount, Plan
    from tests.factories import TeamFactory, make_member
    from tests.training.queueing import Bench
    from training.models import QueueSettings, TeamUsage, TrainingJob

    dice = random.Random(jobs)
    now = timezone.now()
    plans = list(Plan.objects.filter(key__in=["free", "pro", "team", "enterprise"]))
    patterns = list(TrainingJob.unscoped.select_related("team").filter(name="pattern"))
    if not patterns:
        for number in range(TEAMS):
            team = TeamFactory(name=f"Bench {number}")
            Bench(make_member(team, Role.OWNER), name=f"Set {number}").job("pattern")
            BillingAccount.objects.create(team=team, plan=dice.choices(plans, (70, 20, 8, 2))[0])
            TeamUsage.objects.create(team=team, seconds=dice.uniform(0, 200_000), as_of=now)
        patterns = list(TrainingJob.unscoped.select_related("team").filter(name="pattern"))
    # Use does not fade while a check and its claim look at it one after the other.
    QueueSettings.objects.update_or_create(pk=1, defaults={"half_life_days": 1e9})
    TrainingJob.unscoped.exclude(name="pattern").delete()
    TrainingJob.unscoped.update(state="canceled", finished_at=now, lease_until=None, worker=None)
    names = ("project_id", "dataset_version_id", "foundation_model_id", "template", "spec", "spec_sha256")
    weights = [1 / (1 + number) for number in range(TEAMS)]
    rows = []
    for pattern in dice.choices(patterns, weights, k=jobs):
        queued_at = now - timedelta(seconds=dice.uniform(0, 86_400))
        is_short = dice.random() < 1 / 8
        is_express = not is_short and dice.random() < 1 / 20
        rows.append(
            TrainingJob(
                **{name: getattr(pattern, name) for name in names},
                team=pattern.team,
                name="queued",
                kind="generation" if is_short else "training",
                is_short=is_short,
                is_express=is_express,
                queued_at=queued_at,
                line_at=queued_at - timedelta(hours=4 if is_express else 0),
                estimated_seconds=dice.randint(60, 4000),
                gpu_gb=dice.choice((0, 8, 24, 48, 80)),
            )
        )
    TrainingJob.objects.bulk_create(rows, batch_size=2000)
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def claimer(number: int, count: int, *, checked: bool, locked: bool) -> None:
    """Be one worker: claim, check if told to, and end the job so that its team may run another. Prints its figures."""
    import django

    django.setup()
    from django.db import connection, transaction
    from django.utils import timezone

    from training.models import TrainingJob, Worker
    from training.queue import claim

    worker = Worker.objects.create(
        name=f"bench {number}", device="GPU", memory_mb=GPU_MB, seen_at=timezone.now()
    )
    found = {"not_best": 0, "over_limit": 0, "jobs": [], "times": []}
    best = claim._lock_best

    def check(slot: Worker) -> TrainingJob | None:
        expected = first_of_all()
        job = best(slot)
        found["not_best"] += (job.pk if job else None) != expected  # type: ignore[operator]
        return job

    if checked:
        claim._lock_best = check
    if not locked:
        claim.take_turn = lambda: time.sleep(0.002)  # as long as the lock's own statement takes
    for _claim in range(count):
        began = time.perf_counter()
        lease = _claim_patiently(worker)
        found["times"].append(1000 * (time.perf_counter() - began))  # type: ignore[attr-defined]
        if lease is None:
            continue
        found["jobs"].append(lease.job_id)  # type: ignore[attr-defined]
        if checked:
            found["over_limit"] += over_limit()  # type: ignore[operator]
        if checked and random.random() < 0.5:
            continue  # it runs on
        with transaction.atomic():
            if checked:  # or an end could fall between a check and its claim
                claim.take_turn()
            rows = TrainingJob.unscoped.filter(pk=lease.job_id)
            rows.update(state="canceled", finished_at=timezone.now(), lease_until=None, worker=None)
    connection.close()
    print(json.dumps(found))


def first_of_all() -> int | None:
    """Return the job that stands first when every waiting job is put in order, as a plain query over all of them."""
    from django.db import connection

    from training.queue.rules import rules
    from training.queue.standing import JOBS, STANDING, WAITING_LINES, parameters

    values = rules()
    sql = f"""
        WITH RECURSIVE {WAITING_LINES}, {STANDING}
        SELECT job.id FROM {JOBS} job JOIN standing USING (team_id)
        CROSS JOIN LATERAL (
            SELECT CASE WHEN job.is_short THEN standing.short_running ELSE standing.running END AS jobs
        ) at_once
        WHERE job.state = 'queued' AND NOT job.is_test AND at_once.jobs < standing.most AND job.gpu_gb <= 80
        ORDER BY extract(epoch FROM job.line_at) - standing.boost
            - CASE WHEN job.is_short THEN {values.short_boost} ELSE 0 END
            + least({values.longest_for_use}, {values.per_gpu_hour} * standing.used / 3600 / standing.weight)
            + {values.per_running_job} * at_once.jobs / standing.weight
            + CASE WHEN job.gpu_gb < 80 THEN {values.misfit} ELSE 0 END, job.id
        LIMIT 1
    """
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters(values))
        row = cursor.fetchone()
    return row[0] if row else None


def over_limit() -> int:
    """Return how many teams run more than their plan allows."""
    from django.db import connection

    sql = """
        SELECT count(*) FROM (
            SELECT team_id, count(*) AS jobs FROM training_trainingjob WHERE lease_until IS NOT NULL
            GROUP BY team_id, is_short
        ) running JOIN billing_billingaccount account USING (team_id)
        JOIN billing_plan plan ON plan.id = account.plan_id
        WHERE running.jobs > plan.running_trainings
    """
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return int(cursor.fetchone()[0])


def _claim_patiently(worker: Worker) -> Lease | None:
    """Claim; wait again where the check of another holds the lock for longer than a worker would wait for it."""
    from django.db import OperationalError

    from training.queue import claim

    while True:
        try:
            return claim.claim_next(worker)
        except OperationalError as error:
            if "lock timeout" not in str(error):
                raise


def together(
    claimers: int, count: int, *, checked: bool = False, locked: bool = True
) -> tuple[list[Any], float]:
    """Run so many claimers at once; return what each found, and the seconds from the first claim to the last."""
    command = [sys.executable, "-m", "bench.claims", "--claimer"]
    options = [*(["--checked"] if checked else []), *([] if locked else ["--unlocked"])]
    began = time.monotonic()
    processes = [
        subprocess.Popen(
            [*command, str(number), str(count), *options],
            cwd=ROOT,
            env={**os.environ, "LF_BENCH_CHILD": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(claimers)
    ]
    found = [json.loads(process.communicate()[0].strip().splitlines()[-1]) for process in processes]
    return found, time.monotonic() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--claimer", nargs=2, type=int, metavar=("NUMBER", "COUNT"), help=argparse.SUPPRESS)
    parser.add_argument("--checked", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--unlocked", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.testing")
    if options.claimer:
        claimer(*options.claimer, checked=options.checked, locked=not options.unlocked)
        return 0
    from tests.embedded import TestServices

    services = TestServices()
    services.start()
    try:
        return run()
    finally:
        services.stop()


def run() -> int:
    """Measure on a database of its own."""
    import django

    django.setup()
    from django.db import connection
    from django.test.utils import setup_databases, teardown_databases

    databases = setup_databases(verbosity=0, interactive=False)
    values = connection.settings_dict
    os.environ["DATABASE_URL"] = (
        f"postgres://{values['USER']}:{values['PASSWORD']}@{values['HOST']}:{values['PORT']}/{values['NAME']}"
    )
    faults = 0
    try:
        print(f"{'queued':>8}{'workers':>9}{'claims/s':>10}{'p50 ms':>9}{'p99 ms':>9}")
        for jobs in SIZES:
            fill(jobs)
            for claimers in CLAIMERS:
                count = min(TIMED, jobs // claimers // 2)
                found, _seconds = together(claimers, count)
                times = sorted(each for one in found for each in one["times"])
                busy = max(sum(one["times"]) for one in found) / 1000
                p99 = times[int(0.99 * len(times))]
                print(
                    f"{jobs:8}{claimers:9}{len(times) / busy:10.0f}{statistics.median(times):9.1f}{p99:9.1f}"
                )
                faults += _doubles(found)
            fill(jobs)
            # Ordering all of a hundred thousand takes half a second under the lock: for two workers, not for eight.
            claimers = 8 if jobs < 100_000 else 2
            found, _seconds = together(claimers, CHECKED, checked=True)
            faults += _tell(f"{jobs} queued, {claimers} workers, each claim checked", found)
        fill(1_000)
        found, _seconds = together(8, CHECKED, checked=True, locked=False)
        seen = _tell("the same without the lock", found)
        if not seen:
            print("WRONG: without the lock nothing was found, so this check can find nothing")
    finally:
        connection.close()
        teardown_databases(databases, verbosity=0)
    return int(faults > 0 or not seen)


def _doubles(found: list[Any]) -> int:
    jobs = [job for one in found for job in one["jobs"]]
    return len(jobs) - len(set(jobs))


def _tell(name: str, found: list[Any]) -> int:
    """Print what the checks of all claimers found and return how many faults there are."""
    claims = sum(len(one["jobs"]) for one in found)
    not_best, over = (sum(one[key] for one in found) for key in ("not_best", "over_limit"))
    doubles = _doubles(found)
    print(f"{name}: {claims} claims, {not_best} not the best, {doubles} given twice, {over} over a limit")
    return not_best + doubles + over


if __name__ == "__main__":
    sys.exit(main())
