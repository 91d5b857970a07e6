"""Time pages and API on a picture set of 10 and of 1 000 pictures: queries, and server milliseconds (wall and CPU).

With the pictures grow what the team used (10 and 33 000 trainings), its ledger (30 and 99 000 transactions) and the
curves of one training (100 and 1 000 000 steps).

The number of queries must not depend on the rows, and no page may take more than 100 ms of CPU; the times are the
middle of nine requests, in process, on a real PostgreSQL and Valkey. Needs what `bin/setup --dev` installs.

    python -m bench.pages
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "platform")]
REQUESTS = 9
MOST_CPU_MS = 100.0
FEW, MANY = 10, 1000
TRAININGS = {FEW: 10, MANY: 33_000}
STEPS = {FEW: 100, MANY: 1_000_000}


def fill(world: Any, pictures: int) -> None:
    """Bring the world's picture set to `pictures` pictures, as the intake would leave them, and freeze it."""
    import hashlib

    from projects.models import Blob, Item
    from projects.services.versions import freeze_dataset

    team = world.actor.team
    have = Item.objects.for_team(team).filter(dataset=world.dataset).count()
    blobs = [
        Blob(
            team=team,
            sha256=hashlib.sha256(f"{number}".encode()).hexdigest(),
            size=50_000,
            content_type="image/png",
            width=768,
            height=768,
        )
        for number in range(have, pictures)
    ]
    Blob.objects.bulk_create(blobs)
    Item.objects.bulk_create(
        Item(
            team=team, dataset=world.dataset, blob=blob, filename=f"{n:04d}.png", caption=f"a cat, number {n}"
        )
        for n, blob in enumerate(blobs, start=have)
    )
    freeze_dataset(actor=world.actor, uid=world.dataset.uid)


def learn(world: Any, steps: int) -> None:
    """Give the world's training so many logged steps of three curves."""
    import math

    from training.services.curves import write_points

    for chunk in range(-(-steps // 1000)):
        first, last = 1000 * chunk, min(steps, 1000 * chunk + 1000)
        points = {step: math.sin(step / 900) for step in range(first, last)}
        write_points(world.job, {(name, chunk): points for name in ("loss", "lr", "grad_norm")})


def spend(world: Any, trainings: int) -> None:
    """Bring the team's ledger to so many trainings of this and the last months: held, charged and given back."""
    from django.db import connection, transaction

    from billing.models import Account, BillingAccount, Kind, LedgerEntry, LedgerTransaction, Plan, UsageEntry

    team, user = world.actor.team, world.actor.user
    plan = Plan.objects.get(key="pro")
    Plan.objects.filter(pk=plan.pk).update(gpu_seconds_a_month=100_000_000)
    BillingAccount.objects.for_team(team).get_or_create(defaults={"team": team, "plan": plan})
    steps = (
        (Kind.HOLD, {Account.ALLOWANCE: -90, Account.HELD_ALLOWANCE: 90}),
        (Kind.SETTLE, {Account.HELD_ALLOWANCE: -60, Account.USED: 60}),
        (Kind.RELEASE, {Account.HELD_ALLOWANCE: -30, Account.ALLOWANCE: 30}),
    )
    have = UsageEntry.objects.for_team(team).count()
    with transaction.atomic():
        from billing.services.ledger import grant_allowance

        grant_allowance(team)
        for kind, moves in steps:
            rows = LedgerTransaction.objects.bulk_create(
                (
                    LedgerTransaction(team=team, kind=kind, key=f"{kind}:{n}", job_uid=f"trn_{n}", attempt=1)
                    for n in range(have, trainings)
                ),
                batch_size=5000,
            )
            LedgerEntry.objects.bulk_create(
                (
                    LedgerEntry(team=team, transaction=row, account=account, seconds=seconds)
                    for row in rows
                    for account, seconds in moves.items()
                ),
                batch_size=5000,
            )
        UsageEntry.objects.bulk_create(
            (
                UsageEntry(
                    team=team,
                    job_uid=f"trn_{n}",
                    attempt=1,
                    seconds=60,
                    useful=True,
                    user=user,
                    project_name=f"Project {n % 40}",
                )
                for n in range(have, trainings)
            ),
            batch_size=5000,
        )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def addresses(world: Any) -> dict[str, tuple[str, bool]]:
    """Return name -> (address, is API) of what is timed."""
    team = f"/t/{world.actor.team.slug}"
    return {
        "home": (f"{team}/", False),
        "projects": (f"{team}/projects/", False),
        "project": (f"{team}/projects/{world.project.uid}/", False),
        "picture set": (f"{team}/datasets/{world.dataset.uid}/", False),
        "picture": (f"{team}/items/{world.item.uid}/", False),
        "new training": (f"{team}/trainings/new/?dataset={world.dataset.uid}", False),
        "trainings": (f"{team}/trainings/", False),
        "training": (f"{team}/trainings/{world.job.uid}/", False),
        "models": (f"{team}/models/", False),
        "model": (f"{team}/models/{world.model.uid}/", False),
        "usage": (f"{team}/settings/usage/", False),
        "plan": (f"{team}/settings/plan/", False),
        "API plan": ("/api/v1/billing/plan", True),
        "API receipt": (f"/api/v1/trainings/{world.job.uid}/receipt", True),
        "API items": (f"/api/v1/datasets/{world.dataset.uid}/items?limit=100", True),
        "API trainings": ("/api/v1/trainings", True),
        "API training": (f"/api/v1/trainings/{world.job.uid}", True),
        "API curves": (f"/api/v1/trainings/{world.job.uid}/metrics", True),
        "API events": (f"/api/v1/trainings/{world.job.uid}/events?after=0", True),
    }


def measure(world: Any) -> dict[str, tuple[int, float, float]]:
    """Return name -> (queries, wall ms, CPU ms), the middle of some requests."""
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    client = Client()
    client.force_login(world.actor.user)
    taken = {}
    for name, (address, is_api) in addresses(world).items():
        headers = {"Authorization": f"Bearer {world.key_text}"} if is_api else {}
        walls, cpus, queries = [], [], 0
        for _request in range(REQUESTS + 1):
            wall, cpu = time.perf_counter(), time.process_time()
            with CaptureQueriesContext(connection) as captured:
                answer = client.get(address, headers=headers)
            walls.append(1000 * (time.perf_counter() - wall))
            cpus.append(1000 * (time.process_time() - cpu))
            assert answer.status_code == 200, (address, answer.status_code)
            queries = len(captured)
        # The first request compiles templates.
        taken[name] = (queries, statistics.median(walls[1:]), statistics.median(cpus[1:]))
    return taken


def main() -> int:
    """Print a table; return 1 if a page is slow or its number of queries depends on the rows."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "config.testing"
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
    from django.conf import settings
    from django.test.utils import setup_databases, setup_test_environment, teardown_databases

    setup_test_environment()
    settings.ALLOWED_HOSTS = ["*"]
    settings.STRIPE_SECRET_KEY = "sk_test_bench"  # the pages of money are there; none of these asks Stripe
    databases = setup_databases(verbosity=0, interactive=False)
    try:
        from tests.scenario import make_scenario
        from tests.world import make_world

        world = make_world(make_scenario().alice, "bench")
        tables = {}
        for pictures in (FEW, MANY):
            fill(world, pictures)
            spend(world, TRAININGS[pictures])
            learn(world, STEPS[pictures])
            tables[pictures] = measure(world)
    finally:
        teardown_databases(databases, verbosity=0)
    faults = 0
    print(f"{'':16}{'queries':>9}{'wall ms':>10}{'CPU ms':>9}    (with {FEW} pictures)")
    for name, (queries, wall, cpu) in tables[MANY].items():
        few = tables[FEW][name]
        told = complaints(queries, few[0], cpu)
        faults += len(told)
        print(
            f"{name:16}{queries:9}{wall:10.0f}{cpu:9.0f}    {few[0]} queries, {few[1]:.0f} ms  {' '.join(told)}"
        )
    return int(faults > 0)


def complaints(queries: int, with_few: int, cpu_ms: float) -> list[str]:
    """Return what is wrong with a page."""
    found = []
    if queries != with_few:
        found.append("QUERIES DEPEND ON THE ROWS")
    if cpu_ms > MOST_CPU_MS:
        found.append(f"MORE THAN {MOST_CPU_MS:.0f} MS OF CPU")
    return found


if __name__ == "__main__":
    raise SystemExit(main())
