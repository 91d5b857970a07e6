"""The ledger adds up whatever happens, and nobody pays twice or for what was lost."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models import Sum
from django.utils import timezone
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from accounts.models import Team
from billing.balances import balances_of
from billing.entitlements import plan_of
from billing.models import Account, BillingAccount, Kind, LedgerEntry, LedgerTransaction
from billing.models.ledger import SOURCES
from billing.selectors import charged_for
from billing.services.ledger import (
    Funds,
    InsufficientCredits,
    add_bought,
    funds_of,
    grant_allowance,
    held_for,
    hold,
    raise_allowance,
    refund,
    release,
    settle,
)
from billing.services.usage import record_usage
from core.errors import DomainError
from tests.billing.plans import on_plan
from tests.scenario import Scenario, make_scenario


@pytest.fixture
def team(scenario: Scenario) -> Team:
    on_plan(scenario, "free", gpu_seconds_a_month=1000)
    return scenario.team


def sums(team: Team) -> dict[Account, int]:
    rows = LedgerEntry.objects.for_team(team).values("account").annotate(n=Sum("seconds"))
    found = {Account(row["account"]): row["n"] for row in rows}
    return {account: found.get(account, 0) for account in Account}


def test_a_hold_takes_the_month_first_then_what_was_bought(team: Team) -> None:
    add_bought(team, seconds=500, key="topup:1")
    add_bought(team, seconds=500, key="topup:1")
    assert funds_of(team) == Funds(allowance=1000, bought=500, overage=0)
    assert hold(team, job_uid="trn_1", seconds=1200) == 1200
    assert funds_of(team) == Funds(allowance=0, bought=300, overage=0)
    assert settle(team, job_uid="trn_1", attempt=1, seconds=1050.4) == 1050
    assert settle(team, job_uid="trn_1", attempt=1, seconds=1050.4) == 0
    assert release(team, job_uid="trn_1") == 150
    assert release(team, job_uid="trn_1") == 0
    assert funds_of(team) == Funds(allowance=0, bought=450, overage=0)
    assert balances_of(team) == sums(team)
    assert balances_of(team)[Account.USED] == 1050


def test_too_little_is_told_with_the_numbers_and_nothing_is_held(team: Team) -> None:
    with pytest.raises(InsufficientCredits) as refused:
        hold(team, job_uid="trn_1", seconds=1001)
    assert (refused.value.code, refused.value.status) == ("insufficient_credits", 402)
    assert refused.value.extra == {"needed_seconds": 1001, "available_seconds": 1000}
    assert refused.value.message == (
        "This needs about 17 GPU minutes and 16 are left. Buy more, or change the plan."
    )
    assert not LedgerTransaction.objects.for_team(team).filter(kind=Kind.HOLD).exists()
    assert hold(team, job_uid="trn_1", seconds=5000, at_least=1) == 1000


def test_never_more_is_charged_than_was_reserved(team: Team) -> None:
    hold(team, job_uid="trn_1", seconds=100)
    assert settle(team, job_uid="trn_1", attempt=1, seconds=130) == 100
    assert settle(team, job_uid="trn_1", attempt=2, seconds=10) == 0
    assert charged_for(team, "trn_1") == 100


def test_the_spend_limit_lets_so_much_be_invoiced_and_no_more(scenario: Scenario) -> None:
    on_plan(scenario, "pro", gpu_seconds_a_month=100, overage_cents_an_hour=360)  # a cent buys 10 s
    team = scenario.team
    with pytest.raises(InsufficientCredits, match="Buy more"):
        hold(team, job_uid="trn_1", seconds=150)
    BillingAccount.objects.for_team(team).update(spend_limit_cents=10)
    assert funds_of(team) == Funds(allowance=100, bought=0, overage=100)
    assert hold(team, job_uid="trn_1", seconds=150) == 150
    assert funds_of(team).overage == 50
    with pytest.raises(InsufficientCredits) as refused:
        hold(team, job_uid="trn_2", seconds=51)
    assert refused.value.code == "spend_limit_reached"
    settle(team, job_uid="trn_1", attempt=1, seconds=120)
    release(team, job_uid="trn_1")
    assert funds_of(team).overage == 80
    assert balances_of(team)[Account.OVERAGE] == -20


def test_what_is_left_of_a_month_lapses_and_what_was_bought_does_not(team: Team, monkeypatch: Any) -> None:
    add_bought(team, seconds=70, key="topup:1")
    hold(team, job_uid="trn_1", seconds=300)
    later = timezone.now() + timedelta(days=32)
    monkeypatch.setattr("billing.entitlements.timezone.now", lambda: later)
    assert funds_of(team) == Funds(allowance=1000, bought=70, overage=0)
    grant_allowance(team)
    grant_allowance(team)
    assert balances_of(team)[Account.LAPSED] == 700
    assert funds_of(team) == Funds(allowance=1000, bought=70, overage=0)
    assert held_for(team, "trn_1")[Account.HELD_ALLOWANCE] == 300


def test_a_job_that_rested_over_the_month_gives_back_what_it_took_of_the_new_one(
    team: Team, monkeypatch: Any
) -> None:
    hold(team, job_uid="trn_1", seconds=300)
    release(team, job_uid="trn_1")
    later = timezone.now() + timedelta(days=32)
    monkeypatch.setattr("billing.entitlements.timezone.now", lambda: later)
    hold(team, job_uid="trn_1", seconds=400)
    settle(team, job_uid="trn_1", attempt=1, seconds=100)
    release(team, job_uid="trn_1")
    assert funds_of(team).allowance == 900


def test_a_larger_plan_in_mid_month_adds_the_difference_once(scenario: Scenario, team: Team) -> None:
    grant_allowance(team)
    hold(team, job_uid="trn_1", seconds=900)
    before = plan_of(team)
    on_plan(scenario, "pro", gpu_seconds_a_month=3000)
    for _time in range(2):
        raise_allowance(team, before=before)
    assert funds_of(team).allowance == 2100
    for key in ("free", "pro"):
        on_plan(scenario, key)
        grant_allowance(team)
    assert funds_of(team).allowance == 2100


def test_a_refund_reverses_and_never_exceeds_what_was_charged(scenario: Scenario, team: Team) -> None:
    hold(team, job_uid="trn_1", seconds=100)
    settle(team, job_uid="trn_1", attempt=1, seconds=100)
    settled = LedgerTransaction.objects.for_team(team).get(kind=Kind.SETTLE)
    refund(team, settled=settled, seconds=60, reason="our fault", by=scenario.alice.user)
    with pytest.raises(DomainError, match="At most 40 seconds"):
        refund(team, settled=settled, seconds=41, reason="more", by=scenario.alice.user)
    refund(team, settled=settled, seconds=40, reason="the rest", by=scenario.alice.user)
    assert charged_for(team, "trn_1") == 0
    assert funds_of(team).bought == 100
    assert settled.reversals.count() == 2


def test_the_database_refuses_what_does_not_add_up_or_is_changed(team: Team) -> None:
    hold(team, job_uid="trn_1", seconds=100)
    rows = LedgerTransaction.objects.for_team(team)
    entries = LedgerEntry.objects.for_team(team)
    changes = (
        lambda: rows.update(reason="x"),
        lambda: entries.update(seconds=1),
        lambda: entries.delete(),
        lambda: LedgerEntry.objects.create(
            team=team, transaction=rows.get(kind=Kind.HOLD), account=Account.BOUGHT, seconds=-1
        ),
    )
    for change in changes:
        with pytest.raises(IntegrityError), transaction.atomic():
            change()
    crooked = LedgerTransaction.objects.create(team=team, kind=Kind.GRANT, key="crooked")
    LedgerEntry.objects.create(team=team, transaction=crooked, account=Account.BOUGHT, seconds=5)
    with pytest.raises(IntegrityError, match="does not add up"):
        connection.check_constraints()


# -- Any sequence -----------------------------------------------------------------------------------------------

JOBS = st.sampled_from(["trn_a", "trn_b", "trn_c"])
SECONDS = st.integers(1, 700)


class AnySequence(RuleBasedStateMachine):
    """Grant, hold, settle, crash, preempt, release, refund and replay in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.before = transaction.savepoint()
        self.scenario = make_scenario()
        on_plan(self.scenario, "pro", gpu_seconds_a_month=1000, overage_cents_an_hour=360)
        self.team = self.scenario.team
        BillingAccount.objects.for_team(self.team).update(spend_limit_cents=30)
        self.attempts: dict[str, int] = defaultdict(int)
        self.charged: dict[tuple[str, int], int] = {}
        self.refunded = 0
        self.topups = 0

    def teardown(self) -> None:
        transaction.savepoint_rollback(self.before)

    @rule(seconds=SECONDS)
    def top_up(self, seconds: int) -> None:
        self.topups += 1
        for _again in range(2):
            add_bought(self.team, seconds=seconds, key=f"topup:{self.topups}")

    @rule(job=JOBS, seconds=SECONDS, partly=st.booleans())
    def reserve(self, job: str, seconds: int, partly: bool) -> None:
        before = funds_of(self.team).total
        try:
            held = hold(self.team, job_uid=job, seconds=seconds, at_least=1 if partly else None)
        except InsufficientCredits:
            assert before < (1 if partly else seconds)
            held = 0
        assert funds_of(self.team).total == before - held

    @rule(job=JOBS, seconds=SECONDS)
    def end_attempt(self, job: str, seconds: int) -> None:
        self.attempts[job] += 1
        key = (job, self.attempts[job])
        held, before = sum(held_for(self.team, job).values()), charged_for(self.team, job)
        record_usage(team=self.team, job_uid=job, attempt=key[1], seconds=seconds, useful=True)
        self.charged[key] = charged_for(self.team, job) - before
        assert self.charged[key] == min(seconds, held)

    @rule(job=JOBS, seconds=SECONDS)
    def crash(self, job: str, seconds: int) -> None:
        self.attempts[job] += 1
        before = balances_of(self.team)
        record_usage(team=self.team, job_uid=job, attempt=self.attempts[job], seconds=seconds, useful=False)
        assert balances_of(self.team) == before

    @rule(job=JOBS, seconds=SECONDS)
    def replay(self, job: str, seconds: int) -> None:
        before = balances_of(self.team)
        for attempt in range(1, self.attempts[job] + 1):
            record_usage(team=self.team, job_uid=job, attempt=attempt, seconds=seconds, useful=True)
        assert balances_of(self.team) == before

    @rule(job=JOBS)
    def end(self, job: str) -> None:
        release(self.team, job_uid=job)
        assert not any(held_for(self.team, job).values())

    @rule(job=JOBS, seconds=SECONDS)
    def give_back(self, job: str, seconds: int) -> None:
        rows = LedgerTransaction.objects.for_team(self.team).filter(kind=Kind.SETTLE, job_uid=job)
        if (settled := rows.last()) is not None:
            try:
                refund(self.team, settled=settled, seconds=seconds, reason="x", by=self.scenario.alice.user)
                self.refunded += seconds
            except DomainError:
                pass

    @invariant()
    def it_adds_up(self) -> None:
        balances = balances_of(self.team)
        assert balances == sums(self.team)
        assert sum(balances.values()) == 0
        for account, seconds in balances.items():
            assert seconds <= 0 if account in SOURCES else seconds >= 0
        assert balances[Account.USED] == sum(self.charged.values()) - self.refunded
        crooked = (
            LedgerEntry.objects.for_team(self.team)
            .values("transaction")
            .annotate(n=Sum("seconds"))
            .exclude(n=0)
        )
        assert not crooked.exists()


@pytest.mark.slow
@pytest.mark.django_db
def test_any_sequence_leaves_the_ledger_balanced() -> None:
    few = settings(
        max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(AnySequence, settings=few)  # type: ignore[no-untyped-call]
