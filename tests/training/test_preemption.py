"""A job of a larger plan takes the place of one of a smaller plan, which loses nothing."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.roles import Role
from billing.models import BillingAccount, Plan, UsageEntry
from billing.overview import plan_lines
from billing.receipts import receipt_of
from billing.selectors import usage_groups, usage_months
from billing.services.ledger import hold
from notifications.models import Notification
from tests.factories import TeamFactory, make_member
from tests.scenario import Scenario
from tests.training.queueing import Bench, attempts, events, fresh
from training.models import Attempt, Checkpoint, TrainingJob, Worker
from training.queue.claim import claim_next
from training.queue.room import make_room
from training.services import lifecycle
from training.states import JobState


@pytest.fixture
def free(scenario: Scenario) -> Bench:
    """A team on Free whose job has run for twenty minutes and has as long to go, on the only worker."""
    BillingAccount.objects.create(team=scenario.team, plan=Plan.objects.get(key="free"))
    bench = Bench(scenario.alice)
    bench.job("running", waited=5000)
    bench.claim()
    rows = TrainingJob.objects.for_team(scenario.team)
    rows.update(state=JobState.RUNNING, eta_seconds=1200, step=30)
    began = timezone.now() - timedelta(minutes=20)
    Attempt.objects.for_team(scenario.team).update(started_at=began)
    Worker.objects.update(state="busy")
    return bench


def paid(scenario: Scenario, *, waited: float = 200, key: str = "team") -> TrainingJob:
    BillingAccount.objects.create(team=scenario.charlie.team, plan=Plan.objects.get(key=key))
    return Bench(scenario.charlie, name="Theirs").job("urgent", waited=waited)


def running(bench: Bench) -> TrainingJob:
    return fresh(TrainingJob.objects.for_team(bench.actor.team).get(name="running"))


def test_the_running_job_saves_and_the_waiting_one_gets_its_slot(free: Bench, scenario: Scenario) -> None:
    urgent = paid(scenario)
    Worker.objects.exclude(pk=free.worker.pk).delete()
    queued_at = running(free).queued_at
    assert make_room() == 1
    assert running(free).desired == "preempt"
    worker = Worker.objects.get(pk=free.worker.pk)
    assert worker.reserved_for_id == urgent.pk
    assert make_room() == 0
    lifecycle.preempt_job_now(running(free), has_saved=True)
    older = free.job("older", waited=9000)
    assert free.claim().job_uid == urgent.uid
    victim = running(free)
    assert (victim.state, victim.desired, victim.queued_at) == ("queued", "", queued_at)
    assert attempts(victim) == [(1, "preempted")]
    assert events(victim)[-1][2] == {"state": "queued", "desired": "", "reason": "preempted"}
    told = Notification.objects.get(kind="training.preempted")
    assert told.user == scenario.alice.user
    assert told.title == "“running” made room for another training and goes on when it is its turn"
    assert fresh(older).state == "queued"


def test_work_that_could_not_be_saved_is_free(free: Bench, scenario: Scenario) -> None:
    paid(scenario)
    make_room()
    lifecycle.preempt_job_now(running(free), has_saved=False)
    (entry,) = UsageEntry.objects.for_team(scenario.team)
    assert (entry.useful, round(entry.seconds), entry.seconds_lost) == (False, 1200, 0)


def test_what_an_earlier_checkpoint_kept_is_charged_and_only_what_came_after_is_free(
    free: Bench, scenario: Scenario
) -> None:
    """Saved after twelve of twenty minutes. A point of an attempt before and one that is gone keep nothing."""
    job, team = running(free), scenario.team
    hold(team, job_uid=job.uid, seconds=1500)
    began = timezone.now() - timedelta(minutes=20)
    for step, fence, minutes, key in ((10, 0, 19, "before"), (20, 1, 12, "kept"), (30, 1, 15, "")):
        made = Checkpoint.objects.create(team=team, job=job, fence=fence, step=step, epoch=1, state_key=key)
        moment = began + timedelta(minutes=minutes)
        Checkpoint.objects.for_team(team).filter(pk=made.pk).update(created_at=moment)
    lifecycle.preempt_job_now(running(free), has_saved=False)
    lifecycle.end_attempt(running(free), "preempted", useful=False)  # once more changes nothing
    (entry,) = UsageEntry.objects.for_team(scenario.team)
    assert (entry.useful, round(entry.seconds), round(entry.seconds_lost)) == (True, 720, 480)
    receipt = receipt_of(scenario.team, job.uid)
    assert [(line.attempt, round(line.seconds), line.is_useful, line.charged) for line in receipt.lines] == [
        (1, 720, True, 720),
        (1, 480, False, 0),
    ]
    assert (receipt.charged, round(receipt.useful), round(receipt.lost)) == (720, 720, 480)
    for group in ("day", "member", "project", "kind"):
        (row,) = usage_groups(scenario.alice)[group]
        assert (round(row.useful), round(row.lost), row.trainings) == (720, 480, 1)
    (month, *_earlier) = [row for _month, row in usage_months(scenario.alice) if row.trainings]
    assert (round(month.useful), round(month.lost)) == (720, 480)
    line = next(line for line in plan_lines() if line.plan.key == "free")
    assert (round(line.useful_seconds), round(line.lost_seconds)) == (720, 480)


@pytest.mark.parametrize(
    "case", ["short wait", "pro may not", "free slot", "at its limit", "wanted otherwise"]
)
def test_nobody_makes_room_without_need(free: Bench, scenario: Scenario, case: str) -> None:
    paid(
        scenario, waited=100 if case == "short wait" else 200, key="pro" if case == "pro may not" else "team"
    )
    extra = Worker.objects.exclude(pk=free.worker.pk)
    if case != "free slot":
        extra.delete()
    if case == "at its limit":
        Plan.objects.filter(key="team").update(running_trainings=0)
    if case == "wanted otherwise":
        TrainingJob.objects.for_team(scenario.team).update(desired="pause")
    assert make_room() == 0
    assert running(free).desired == ("pause" if case == "wanted otherwise" else "")


def test_one_waiting_job_takes_one_place_only(free: Bench, scenario: Scenario) -> None:
    """The first victim takes a while to save; nobody else has to go for the same job meanwhile."""
    second = Worker.objects.create(name="second", device="CPU", seen_at=timezone.now())
    other = Bench(make_member(TeamFactory(name="Second"), Role.OWNER), name="Second")
    BillingAccount.objects.create(team=other.actor.team, plan=Plan.objects.get(key="free"))
    other.job("running too", waited=4000)
    assert claim_next(second) is not None
    TrainingJob.objects.for_team(other.actor.team).update(state=JobState.RUNNING, eta_seconds=1200)
    Attempt.objects.for_team(other.actor.team).update(started_at=timezone.now() - timedelta(minutes=20))
    paid(scenario)
    Worker.objects.exclude(pk__in=[free.worker.pk, second.pk]).delete()
    Worker.objects.update(state="busy")
    assert [make_room(), make_room(), make_room()] == [1, 0, 0]


@pytest.mark.parametrize(("wish", "end"), [("cancel", "canceled"), ("pause", "paused")])
def test_who_cancels_a_job_that_makes_room_is_heard(
    free: Bench, scenario: Scenario, wish: str, end: str
) -> None:
    paid(scenario)
    make_room()
    TrainingJob.objects.for_team(scenario.team).update(desired=wish)
    lifecycle.preempt_job_now(running(free), has_saved=True)
    assert running(free).state == end
