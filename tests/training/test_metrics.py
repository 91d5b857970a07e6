"""What operators see of the queue: the page in the admin and Prometheus' metrics."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from accounts.models import User
from billing.models import BillingAccount, Plan
from core.models import DutyRun
from core.periodic import Duty, perform
from tests.scenario import Scenario
from tests.training.queueing import Bench
from training.models import TrainingJob
from training.queue.outlook import look_ahead


@pytest.fixture
def busy(scenario: Scenario) -> Bench:
    """One job of a team on Pro runs, one waits, one failed."""
    BillingAccount.objects.create(team=scenario.team, plan=Plan.objects.get(key="pro"))
    bench = Bench(scenario.alice)
    bench.job("running", waited=120)
    bench.claim()
    bench.job("waiting", waited=60)
    bench.order(waited=10)
    failed = bench.job("failed")
    TrainingJob.objects.for_team(scenario.team).filter(pk=failed.pk).update(
        state="failed", finished_at=failed.created_at, error_code="diverged"
    )
    look_ahead()
    return bench


def test_prometheus_reads_the_queue_with_the_token_and_nobody_without(
    busy: Bench, settings: Any, client: Client
) -> None:
    assert client.get("/metrics").status_code == 404
    settings.METRICS_TOKEN = "a-token"
    assert client.get("/metrics", headers={"Authorization": "Bearer wrong"}).status_code == 404
    answer = client.get("/metrics", headers={"Authorization": "Bearer a-token"})
    lines = answer.content.decode().splitlines()
    assert 'lf_jobs_waiting{kind="training",plan="pro"} 1.0' in lines
    assert 'lf_jobs_waiting{kind="generation",plan="pro"} 1.0' in lines
    assert 'lf_jobs_running{kind="training",plan="pro"} 1.0' in lines
    assert 'lf_jobs_waiting_for{reason="turn"} 2.0' in lines
    assert 'lf_failures_of_a_day{code="diverged"} 1.0' in lines
    (median,) = [
        line
        for line in lines
        if line.startswith('lf_wait_seconds{kind="training",plan="pro",quantile="0.5"}')
    ]
    assert float(median.split()[1]) == pytest.approx(120, abs=5)


@pytest.mark.django_db(transaction=True)
def test_each_duty_is_counted_with_its_time_and_its_failures(settings: Any, client: Client) -> None:
    def fails() -> None:
        raise RuntimeError("no luck")

    perform(Duty("tests.fails", 60, fails))
    perform(Duty("tests.fails", 60, fails))
    row = DutyRun.objects.get(name="tests.fails")
    assert (row.runs, row.failures, row.last_error) == (2, 2, "RuntimeError: no luck")
    settings.METRICS_TOKEN = "a-token"
    text = client.get("/metrics", headers={"Authorization": "Bearer a-token"}).content.decode()
    assert 'lf_duty_failures_total{duty="tests.fails"} 2.0' in text


def test_the_operator_sees_the_queue_and_others_do_not(busy: Bench, client: Client) -> None:
    client.force_login(busy.actor.user)
    assert client.get("/admin/training/worker/queue/").status_code == 302
    client.force_login(User.objects.create_superuser("root@example.org", "a long pass phrase"))
    page = client.get("/admin/training/worker/queue/").content.decode()
    assert "diverged" in page
    assert "Others are before it." in page
    assert "Queue" in client.get("/admin/training/worker/").content.decode()
