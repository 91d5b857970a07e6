"""The API of plans and money, and the receipt of a training."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts.roles import Role
from billing.models import Kind, LedgerTransaction
from billing.services.ledger import refund
from billing.services.usage import record_usage
from tests.api.clients import API, with_key, with_token
from tests.billing.plans import on_plan
from tests.billing.till import Till
from tests.factories import make_member
from tests.scenario import Scenario
from tests.training.queueing import Bench, fresh
from training.models import Attempt, TrainingJob
from training.services import lifecycle
from training.services.lifecycle import CrashReport


def test_the_plan_and_its_balance_are_told(scenario: Scenario) -> None:
    on_plan(scenario, "pro", gpu_seconds_a_month=1000)
    found = with_key(scenario.alice).get(f"{API}/billing/plan").json()
    assert (found["plan"], found["status"], found["metered"]) == ("pro", "active", True)
    assert found["balance"] == {
        "allowance_seconds": 1000,
        "bought_seconds": 0,
        "overage_seconds": 0,
        "held_seconds": 0,
    }
    assert with_key(make_member(scenario.team, Role.EDITOR)).get(f"{API}/billing/plan").status_code == 403


def test_the_spend_limit_is_read_and_set(scenario: Scenario) -> None:
    on_plan(scenario, "pro")
    payer = with_token(scenario.alice)
    assert payer.get(f"{API}/spend_limit").json()["cents"] == 0
    changed = payer.put(f"{API}/spend_limit", {"cents": 5000}, format="json").json()
    assert (changed["cents"], changed["used_cents"]) == (5000, 0)
    found = payer.get(f"{API}/billing/plan").json()
    assert found["balance"]["overage_seconds"] == 5000 * 3600 // 300
    for wrong in ({"cents": -1}, {"cents": 10**9}, {"cents": "x"}):
        assert payer.put(f"{API}/spend_limit", wrong, format="json").status_code == 422
    key = with_key(scenario.alice)
    assert key.put(f"{API}/spend_limit", {"cents": 1}, format="json").status_code == 403


def test_checkout_portal_and_invoices_lead_to_stripe(scenario: Scenario, till: Till) -> None:
    payer = with_token(scenario.alice)
    for wrong in ({}, {"plan": "pro", "top_up": "gpu-60"}):
        assert payer.post(f"{API}/billing/checkout", wrong, format="json").status_code == 422
    answer = payer.post(f"{API}/billing/checkout", {"plan": "pro"}, format="json")
    till.pay(answer.json()["url"])
    till.deliver()
    assert payer.get(f"{API}/billing/plan").json()["plan"] == "pro"
    assert payer.post(f"{API}/billing/checkout", {"plan": "team"}, format="json").json()["url"] is None
    assert payer.post(f"{API}/billing/portal").json()["url"].startswith(till.server.url)
    assert [row["status"] for row in payer.get(f"{API}/billing/invoices").json()["data"]] == ["paid", "paid"]
    till.server.control("faults", rate=1.0, kinds=["500"])
    down = payer.get(f"{API}/billing/invoices")
    assert (down.status_code, down.json()["code"], down.json()["retryable"]) == (
        503,
        "payments_unavailable",
        True,
    )


def test_without_payments_the_addresses_of_money_are_not_there(scenario: Scenario) -> None:
    payer = with_token(scenario.alice)
    assert payer.post(f"{API}/billing/checkout", {"plan": "pro"}, format="json").status_code == 404
    assert payer.post(f"{API}/billing/portal").status_code == 404
    assert payer.get(f"{API}/billing/invoices").status_code == 404


def test_a_receipt_lists_attempts_and_where_the_seconds_came_from(scenario: Scenario) -> None:
    on_plan(scenario, "pro", gpu_seconds_a_month=10_000)
    bench = Bench(scenario.alice)
    job = bench.job()

    def ran(seconds: float) -> None:
        began = timezone.now() - timedelta(seconds=seconds)
        Attempt.objects.for_team(job.team).filter(job=job, ended_at=None).update(started_at=began)

    bench.claim()
    ran(40)
    lifecycle.crash_job(fresh(job), CrashReport("worker_lost", "gone"))
    TrainingJob.objects.for_team(job.team).update(run_after=None)
    bench.claim()
    ran(50)
    lifecycle.pause_job_now(fresh(job))
    settled = LedgerTransaction.objects.for_team(job.team).get(kind=Kind.SETTLE)
    refund(job.team, settled=settled, seconds=20, reason="sorry", by=scenario.alice.user)
    found = with_key(scenario.alice).get(f"{API}/trainings/{job.uid}/receipt").json()
    assert [(row["attempt"], row["useful"], row["charged_seconds"]) for row in found["attempts"]] == [
        (1, False, 0),
        (2, True, 50),
    ]
    assert (found["charged_seconds"], found["of_allowance_seconds"], found["refunded_seconds"]) == (
        30,
        50,
        20,
    )
    assert found["lost_seconds"] == pytest.approx(40, abs=2)
    assert found["held_seconds"] == 0


def test_usage_by_day_and_as_a_table(scenario: Scenario) -> None:
    for attempt, name in enumerate(["Lamps", "=HYPERLINK(1)"]):
        record_usage(
            team=scenario.team,
            job_uid="trn_a",
            attempt=attempt,
            seconds=30,
            useful=True,
            user=scenario.alice.user,
            project_name=name,
        )
    client = with_key(scenario.alice)
    days: list[dict[str, Any]] = client.get(f"{API}/usage?group_by=day").json()["data"]
    today = f"{timezone.now():%Y-%m-%d}"
    assert [(row["group"], row["useful_seconds"]) for row in days] == [(today, 60.0)]
    kinds = client.get(f"{API}/usage?group_by=kind").json()["data"]
    assert [(row["group"], row["useful_seconds"]) for row in kinds] == [("training", 60.0)]
    table = client.get(f"{API}/usage/export.csv")
    assert table["Content-Type"] == "text/csv; charset=utf-8"
    assert table.content.decode().splitlines() == [
        "day,member,project,kind,useful_seconds,lost_seconds,trainings",
        f"{today},alice@example.org,'=HYPERLINK(1),training,30.0,0.0,1",
        f"{today},alice@example.org,Lamps,training,30.0,0.0,1",
    ]
