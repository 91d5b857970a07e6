"""Kill everything while money moves, and see that the ledger adds up: `python -m bench.money [--seconds 60]`.

Starts the whole platform with our own Stripe server, and processes that reserve, use and give back GPU time of one team
as workers do. Once every few seconds a process, the web servers, the worker of short jobs or PostgreSQL is killed with
signal 9. At the end: every transaction balanced, balances equal to their entries, what was charged equal to the useful
attempts, no attempt charged twice, every paid checkout booked once, every message acted upon.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "platform")]

from core.services_local import free_port  # noqa: E402
from tests.installation import Installation  # noqa: E402
from tests.stripe_server import StripeServer  # noqa: E402

WORKERS = 4
SECRET = "whsec_bench"


class Paying(Installation):
    """The platform without demo and training worker, with payments."""


def spend(team_uid: str, number: int) -> None:
    """Be one worker: reserve, use and give back for ever, whatever fails on the way."""
    import django

    django.setup()
    from django.db import Error, connection

    from accounts.models import Team
    from billing.services.ledger import InsufficientCredits, hold, release
    from billing.services.usage import record_usage

    dice = random.Random(number)
    job = 0
    while True:
        job += 1
        uid = f"trn_{number}_{os.getpid()}_{job}"
        try:
            team = Team.objects.get(uid=team_uid)
            hold(team, job_uid=uid, seconds=80)
            for attempt in range(1, dice.randint(2, 4)):
                useful = dice.random() < 0.7
                record_usage(
                    team=team, job_uid=uid, attempt=attempt, seconds=dice.randint(1, 20), useful=useful
                )
            release(team, job_uid=uid)
        except InsufficientCredits:
            time.sleep(0.2)
        except (Error, OSError):
            connection.close()
            time.sleep(0.3)


def prepare() -> Any:
    """Make a team on a metered plan with much time."""
    import django

    django.setup()
    from django.core.management import call_command

    from billing.models import Plan
    from tests.scenario import make_scenario

    Plan.objects.filter(key="free").update(gpu_seconds_a_month=20_000)
    call_command("stripe_sync", stdout=io.StringIO())
    return make_scenario()


def verdict(team: Any, paid: int) -> tuple[list[str], str]:
    """Return what does not add up, and the figures."""
    from django.db.models import Sum

    from billing.balances import balances_of
    from billing.models import (
        Account,
        EventState,
        Kind,
        LedgerEntry,
        LedgerTransaction,
        StripeEvent,
        UsageEntry,
    )
    from core.models import OutboxMessage

    found = []
    entries = LedgerEntry.objects.for_team(team)
    sums = dict(entries.values_list("account").annotate(n=Sum("seconds")))
    balances = balances_of(team)
    if {account: sums.get(account, 0) for account in Account} != balances:
        found.append(f"balances {balances} are not the sums {sums}")
    if entries.values("transaction").annotate(n=Sum("seconds")).exclude(n=0).exists():
        found.append("a transaction is not balanced")
    held = {row["transaction__job_uid"]: row["n"] for row in _held(entries)}
    useful = UsageEntry.objects.for_team(team).filter(useful=True)
    charged = LedgerTransaction.objects.for_team(team).filter(kind=Kind.SETTLE)
    if charged.count() != charged.values("job_uid", "attempt").distinct().count():
        found.append("an attempt was charged twice")
    of_attempts = sum(round(row) for row in useful.values_list("seconds", flat=True))
    if balances[Account.USED] != of_attempts:
        found.append(f"{balances[Account.USED]} s charged, {of_attempts} s of useful work")
    for job, seconds in held.items():
        if seconds < 0:
            found.append(f"{job} holds {seconds}")
    bought = LedgerTransaction.objects.for_team(team).filter(kind=Kind.TOP_UP).count()
    if bought != paid:
        found.append(f"{paid} top-ups were paid, {bought} booked")
    for event in StripeEvent.objects.exclude(state__in=[EventState.DONE, EventState.IGNORED]):
        message = OutboxMessage.objects.filter(subject_uid=event.uid).values().first()
        found.append(f"{event} is {event.state} after {event.tries} tries: {message} {event.error[-200:]}")
    told = (
        f"{LedgerTransaction.objects.for_team(team).count()} transactions, {useful.count()} useful attempts, "
        f"{balances[Account.USED]} s charged of {of_attempts} s, {StripeEvent.objects.count()} messages"
    )
    return found, told


def _held(entries: Any) -> Any:
    from django.db.models import Sum

    from billing.services.ledger import HELD

    return entries.filter(account__in=HELD.values()).values("transaction__job_uid").annotate(n=Sum("seconds"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--spend", nargs=2, metavar=("TEAM", "NUMBER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.spend:
        spend(options.spend[0], int(options.spend[1]))
    port = free_port()
    settings = {
        "STRIPE_SECRET_KEY": "sk_test_bench",
        "STRIPE_WEBHOOK_SECRET": SECRET,
        "STRIPE_API_BASE": f"http://127.0.0.1:{port}",
        "LF_DEFAULT_PLAN": "free",
    }
    Paying.settings = settings
    with StripeServer(port=port, webhook_secret=SECRET) as stripe:
        platform = Paying()
        stripe.control(
            "webhooks", mode="now", url=f"http://127.0.0.1:{platform.port}/stripe/webhook/", secret=SECRET
        )
        os.environ.update(LF_VAR_DIR=str(platform.var), DJANGO_SETTINGS_MODULE="config.settings", **settings)
        try:
            platform.wait_until_ready()
            return run(platform, stripe, options.seconds)
        finally:
            platform.stop()


def run(platform: Installation, stripe: StripeServer, seconds: int) -> int:
    scenario = prepare()
    from django.db import Error, connection

    from billing.services.purchases import buy_top_up
    from core.errors import DomainError

    spenders = [_spender(scenario.team.uid, number) for number in range(WORKERS)]
    dice, kills, paid, until = random.Random(1), 0, 0, time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(dice.uniform(0.5, 2.0))
        try:
            address = buy_top_up(actor=scenario.alice, key="gpu-60", once=str(paid))
            stripe.control("pay", session=address.rpartition("/")[2], outcome="ok")
            paid += 1
        except (Error, OSError, DomainError):
            connection.close()
        victim = dice.choice(["spender", "spender", "web", "dramatiq", "postgres"])
        if victim == "spender":
            number = dice.randrange(WORKERS)
            spenders[number].kill()
            spenders[number].wait()
            spenders[number] = _spender(scenario.team.uid, number)
        elif victim == "web":
            platform.kill_web()
        else:
            for process in platform.all_with(victim)[:1]:
                process.kill()
        kills += 1
    for process in spenders:
        process.kill()
        process.wait()
    connection.close()
    found, told = _settled(platform, scenario.team, paid)
    print(told)
    print(f"{seconds} s, {kills} kills, {paid} paid top-ups: {'all adds up' if not found else 'WRONG'}")
    for line in found:
        print(f"  {line}")
    return 1 if found else 0


def _settled(platform: Installation, team: Any, paid: int) -> tuple[list[str], str]:
    """Let what is under way arrive, look once at Stripe as every night, and return the verdict."""
    from django.db import Error, connection

    from billing.duties import reconcile

    deadline = time.monotonic() + 720  # a message lost again and again is sent again after ten minutes
    while True:
        try:
            if platform.status() == 200:
                reconcile()
                found, told = verdict(team, paid)
                if not found or time.monotonic() > deadline:
                    return found, told
        except (Error, OSError):
            connection.close()
        time.sleep(5)


def _spender(team: str, number: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "bench.money", "--spend", team, str(number)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    sys.exit(main())
