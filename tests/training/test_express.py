"""Express: a head start in the queue, for whoever pays more for each second."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from accounts.roles import KEY_SCOPES
from accounts.services.api_keys import create_api_key
from billing.selectors import charged_for
from billing.services.ledger import held_for
from core.errors import DomainError
from tests.billing.plans import on_plan
from tests.scenario import Scenario
from tests.training.conftest import client_of
from tests.training.queueing import Bench, fresh
from training.models import Attempt, QueueSettings, TrainingJob
from training.queue.budget import rest_spent_jobs
from training.services import control, lifecycle
from training.services.jobs import create_job, retry_job

HOUR = timedelta(hours=1)


@pytest.fixture
def bench(scenario: Scenario) -> Bench:
    on_plan(scenario, "pro", gpu_seconds_a_month=10_000, running_trainings=5)
    return Bench(scenario.alice)


def express(bench: Bench, name: str = "Fast") -> TrainingJob:
    return create_job(
        actor=bench.actor,
        dataset_version=bench.version,
        foundation_model=bench.base,
        template="style",
        name=name,
        settings={"training.steps": 60},
        priority="express",
    )


def held(job: TrainingJob) -> int:
    return sum(held_for(job.team, job.uid).values())


def test_an_express_training_starts_before_what_was_queued_up_to_four_hours_earlier(bench: Bench) -> None:
    older = bench.job("older", waited=4.1 * 3600)
    bench.job("younger", waited=3.9 * 3600)
    job = express(bench)
    assert job.queued_at - job.line_at == 4 * HOUR
    assert [bench.claim().job_uid for _claim in range(2)] == [older.uid, job.uid]


def test_each_second_of_it_is_reserved_and_charged_as_one_and_a_half(bench: Bench) -> None:
    usual, job = bench.job(), express(bench)
    assert held(job) == pytest.approx(1.5 * held(usual), abs=2)
    control.cancel_job(actor=bench.actor, job=usual)
    bench.claim()
    began = timezone.now() - timedelta(seconds=40)
    Attempt.objects.for_team(job.team).update(started_at=began)
    lifecycle.cancel_job_now(fresh(job))
    assert charged_for(job.team, job.uid) == 60
    assert held(job) == 0


def test_it_rests_when_its_time_is_used_up_at_its_own_rate(bench: Bench, scenario: Scenario) -> None:
    job = express(bench)
    reserved = held(job)
    on_plan(scenario, "pro", gpu_seconds_a_month=reserved)
    bench.claim()
    lifecycle.move(fresh(job), lifecycle.JobState.RUNNING)
    rows = Attempt.objects.for_team(job.team)
    rows.update(started_at=timezone.now() - timedelta(seconds=reserved / 1.5 - 50))
    assert rest_spent_jobs() == 0
    assert fresh(job).desired == ""
    TrainingJob.objects.for_team(job.team).update(hard_cap_seconds=reserved)
    rows.update(started_at=timezone.now() - timedelta(seconds=reserved / 1.5 - 20))
    assert rest_spent_jobs() == 1
    assert fresh(job).desired == "pause"


def test_a_changed_rate_acts_on_new_trainings_only(bench: Bench) -> None:
    job = express(bench)
    QueueSettings.objects.update_or_create(pk=1, defaults={"express_rate": 3.0, "express_boost": 60.0})
    assert (fresh(job).rate, express(bench, "Later").rate) == (1.5, 3.0)


def test_it_keeps_its_head_start_through_a_pause_and_a_retry(bench: Bench) -> None:
    job = express(bench)
    control.pause_job(actor=bench.actor, job=job)
    row = control.resume_job(actor=bench.actor, job=job)
    assert row.queued_at - row.line_at == 4 * HOUR
    control.cancel_job(actor=bench.actor, job=job)
    again = retry_job(actor=bench.actor, job=fresh(job))
    assert (again.is_express, again.rate, again.queued_at - again.line_at) == (True, 1.5, 4 * HOUR)


def test_a_plan_without_metering_has_no_express(scenario: Scenario) -> None:
    with pytest.raises(DomainError) as caught:
        express(Bench(scenario.alice))
    assert (caught.value.code, caught.value.pointer) == ("express_not_offered", "/priority")
    assert not TrainingJob.objects.for_team(scenario.team).exists()


def test_a_retry_on_a_plan_without_metering_is_a_usual_training(bench: Bench, scenario: Scenario) -> None:
    job = express(bench)
    control.pause_job(actor=bench.actor, job=job)
    on_plan(scenario, "unlimited")
    row = control.resume_job(actor=bench.actor, job=job)
    assert row.line_at == row.queued_at
    control.cancel_job(actor=bench.actor, job=job)
    again = retry_job(actor=bench.actor, job=fresh(job))
    assert (again.is_express, again.rate) == (False, 1.0)


def test_the_api_takes_and_shows_the_priority(bench: Bench, scenario: Scenario) -> None:
    text = create_api_key(actor=scenario.alice, name="k", scopes=list(KEY_SCOPES)).text
    api = Client(headers={"Authorization": f"Bearer {text}", "Idempotency-Key": "one"})
    body = {
        "dataset_version": bench.version.uid,
        "base_model": bench.base.key,
        "template": "style",
        "name": "Fast",
        "priority": "express",
    }
    made = api.post("/api/v1/trainings", json.dumps(body), content_type="application/json").json()
    assert made["priority"] == "express"
    assert TrainingJob.objects.for_team(scenario.team).get(uid=made["id"]).is_express


def test_the_form_offers_it_where_time_is_metered(bench: Bench, scenario: Scenario) -> None:
    address = f"/t/{scenario.team.slug}/trainings/new/"
    words = "starts up to 4 h sooner; each second counts as 1.5."
    shown = client_of(scenario.alice).get(address).content.decode()
    assert words in " ".join(shown.split())
    on_plan(scenario, "unlimited")
    assert "Express" not in client_of(scenario.alice).get(address).content.decode()
