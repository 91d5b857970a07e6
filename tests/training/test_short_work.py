"""Short work beside trainings: it has its own line and limit, and a training lets it pass."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from billing.models import BillingAccount, Plan, UsageEntry
from core.errors import Conflict, QuotaExceeded
from notifications.models import Notification
from tests.scenario import Scenario
from tests.training.queueing import Bench, attempts, events, fresh, statuses
from training.models import Attempt, TrainingJob, Worker
from training.queue.claim import claim_next
from training.queue.outlook import look_ahead, outlook_of
from training.queue.room import make_room
from training.services import finalize, lifecycle
from training.services.control import cancel_job, pause_job, resume_job, stop_job
from training.states import JobState, WaitsFor


@pytest.fixture
def busy(scenario: Scenario) -> Bench:
    """A team on Free whose training has run for ten minutes on the only worker, with an hour to go."""
    BillingAccount.objects.create(team=scenario.team, plan=Plan.objects.get(key="free"))
    bench = Bench(scenario.alice)
    bench.job("running", waited=5000)
    bench.claim()
    TrainingJob.objects.for_team(scenario.team).update(state=JobState.RUNNING, eta_seconds=3600, step=30)
    Attempt.objects.for_team(scenario.team).update(started_at=timezone.now() - timedelta(minutes=10))
    Worker.objects.update(state="busy")
    return bench


def running(bench: Bench) -> TrainingJob:
    return fresh(TrainingJob.objects.for_team(bench.actor.team).get(name="running"))


def test_a_training_lets_the_team_s_pictures_pass_and_goes_on(busy: Bench) -> None:
    order = busy.order(waited=20)
    assert make_room() == 1
    assert running(busy).desired == "yield"
    assert make_room() == 0
    lifecycle.preempt_job_now(running(busy), has_saved=True)
    assert attempts(running(busy)) == [(1, "yielded")]
    assert events(running(busy))[-1][2] == {"state": "queued", "desired": "", "reason": "yielded"}
    lease = busy.claim()
    assert lease.job_uid == order.uid
    lifecycle.move(fresh(order), JobState.RUNNING)
    finalize.complete_short(fresh(order))
    assert statuses(order) == ["queued", "starting", "running", "finalizing", "succeeded"]
    assert busy.claim().job_uid == running(busy).uid
    assert not Notification.objects.exists()
    usage = UsageEntry.objects.for_team(busy.actor.team).order_by("pk").values_list("kind", "useful")
    assert list(usage) == [("training", True), ("generation", True)]


@pytest.mark.parametrize("case", ["just asked", "just begun", "nearly done", "free slot"])
def test_a_training_is_not_disturbed_without_need(busy: Bench, case: str) -> None:
    busy.order(waited=10 if case == "just asked" else 20)
    if case == "just begun":
        Attempt.objects.for_team(busy.actor.team).update(started_at=timezone.now() - timedelta(minutes=1))
    if case == "nearly done":
        TrainingJob.objects.for_team(busy.actor.team).update(eta_seconds=40)
    if case == "free slot":
        Worker.objects.create(name="free", device="CPU", seen_at=timezone.now())
    assert make_room() == 0
    assert running(busy).desired == ""


def test_pictures_of_a_larger_plan_pass_a_smaller_one_but_not_the_other_way(
    busy: Bench, scenario: Scenario
) -> None:
    theirs = Bench(scenario.charlie, name="Theirs")
    Worker.objects.exclude(pk=busy.worker.pk).delete()
    BillingAccount.objects.create(team=scenario.charlie.team, plan=Plan.objects.get(key="pro"))
    theirs.order(waited=20)
    Plan.objects.filter(key="free").update(position=7)
    Attempt.objects.for_team(busy.actor.team).update(started_at=timezone.now() - timedelta(minutes=16))
    assert make_room() == 0
    Plan.objects.filter(key="free").update(position=0)
    Attempt.objects.for_team(busy.actor.team).update(started_at=timezone.now() - timedelta(minutes=14))
    assert make_room() == 0  # its own team may ask after two minutes, others after fifteen
    Attempt.objects.for_team(busy.actor.team).update(started_at=timezone.now() - timedelta(minutes=16))
    assert make_room() == 1


def test_a_team_at_its_limit_of_trainings_still_draws(busy: Bench, scenario: Scenario) -> None:
    busy.job("second", waited=100)
    order = busy.order()
    assert busy.claim().job_uid == order.uid
    assert claim_next(busy.worker) is None  # one training and one order at once is what the plan says
    look_ahead()
    waiting = fresh(TrainingJob.objects.for_team(scenario.team).get(name="second"))
    assert outlook_of(waiting).reason == WaitsFor.LIMIT


def test_too_many_waiting_orders_are_refused_and_trainings_are_counted_apart(busy: Bench) -> None:
    busy.order()
    busy.order()
    with pytest.raises(QuotaExceeded) as caught:
        busy.order()
    assert caught.value.code == "quota_exceeded"
    assert (caught.value.extra["quota"], caught.value.extra["limit"]) == ("queued_short_work", 2)
    busy.job("second")


def test_an_order_is_paused_resumed_and_canceled_but_not_stopped(scenario: Scenario) -> None:
    bench = Bench(scenario.alice)
    order = bench.order()
    assert pause_job(actor=scenario.alice, job=order).state == "paused"
    assert resume_job(actor=scenario.alice, job=order).state == "queued"
    with pytest.raises(Conflict) as caught:
        stop_job(actor=scenario.alice, job=order)
    assert caught.value.code == "nothing_to_stop"
    assert cancel_job(actor=scenario.alice, job=order).state == "canceled"


def test_orders_are_no_trainings(scenario: Scenario) -> None:
    order = Bench(scenario.alice).order()
    assert order.uid.startswith("gen_")
    assert not TrainingJob.objects.for_team(scenario.team).exists()
    assert TrainingJob.jobs.for_team(scenario.team).get() == order
