"""A short job is done once, however often its message is lost, doubled or its worker killed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import dramatiq
import pytest
from django.utils import timezone

from core.models import OutboxMessage
from core.outbox import enqueue, forget_done, send_due, short_job
from core.periodic import duties

pytestmark = pytest.mark.django_db

calls: list[str] = []
given_up: list[str] = []


def _fragile(subject_uid: str) -> bool | None:
    calls.append(subject_uid)
    if subject_uid == "broken":
        raise RuntimeError("no luck")
    return False if subject_uid == "busy" else None


@pytest.fixture
def fragile() -> Iterator[dramatiq.Actor[..., None]]:
    calls.clear()
    given_up.clear()
    actor = short_job(queue_name="test-outbox", most_failures=2, give_up=given_up.append)(_fragile)
    yield actor
    dramatiq.get_broker().actors.pop(actor.actor_name, None)


def row_of(subject_uid: str) -> OutboxMessage:
    return OutboxMessage.objects.get(subject_uid=subject_uid)


def make_due() -> None:
    OutboxMessage.objects.filter(done_at=None).update(next_try_at=timezone.now(), taken_until=None)


def test_job_whose_message_comes_twice_is_done_once(fragile: dramatiq.Actor[..., None]) -> None:
    enqueue(fragile, "once")
    for _message in range(2):
        fragile(row_of("once").pk, "once")
    assert calls == ["once"]
    assert row_of("once").done_at is not None


def test_lost_message_is_sent_again_by_the_clock_and_ever_more_rarely(
    fragile: dramatiq.Actor[..., None],
) -> None:
    enqueue(fragile, "lost")
    assert send_due() == 0
    pauses = []
    for _time in range(3):
        make_due()
        assert send_due() == 1
        pauses.append(round((row_of("lost").next_try_at - timezone.now()).total_seconds()))
    assert pauses == [60, 120, 240]
    assert "core.outbox.send_due" in {duty.name for duty in duties()}


def test_job_of_a_killed_worker_is_taken_again_after_its_lease(fragile: dramatiq.Actor[..., None]) -> None:
    enqueue(fragile, "killed")
    rows = OutboxMessage.objects.filter(subject_uid="killed")
    rows.update(taken_until=timezone.now() + timedelta(seconds=60))
    fragile(row_of("killed").pk, "killed")
    assert calls == []
    rows.update(taken_until=timezone.now() - timedelta(seconds=1))
    fragile(row_of("killed").pk, "killed")
    assert calls == ["killed"]


def test_failing_job_waits_longer_each_time_and_is_given_up(fragile: dramatiq.Actor[..., None]) -> None:
    enqueue(fragile, "broken")
    fragile(row_of("broken").pk, "broken")
    row = row_of("broken")
    assert (row.failures, row.last_error, row.done_at) == (1, "RuntimeError: no luck", None)
    assert 4 <= (row.next_try_at - timezone.now()).total_seconds() <= 5
    fragile(row.pk, "broken")
    assert (given_up, row_of("broken").failures) == (["broken"], 2)
    assert row_of("broken").done_at is not None


def test_job_that_failed_a_hundred_times_is_tried_again_in_ten_minutes() -> None:
    actor = short_job(queue_name="test-outbox", most_failures=200)(_fragile)
    try:
        enqueue(actor, "broken")
        OutboxMessage.objects.filter(subject_uid="broken").update(failures=100)
        actor(row_of("broken").pk, "broken")
        assert row_of("broken").failures == 101
        assert 590 <= (row_of("broken").next_try_at - timezone.now()).total_seconds() <= 600
    finally:
        dramatiq.get_broker().actors.pop(actor.actor_name, None)


def test_job_that_says_not_now_is_no_failure(fragile: dramatiq.Actor[..., None]) -> None:
    enqueue(fragile, "busy")
    fragile(row_of("busy").pk, "busy")
    row = row_of("busy")
    assert (row.failures, row.done_at, row.taken_until) == (0, None, None)
    assert row.next_try_at > timezone.now() + timedelta(seconds=20)


def test_done_jobs_are_forgotten_after_a_week(fragile: dramatiq.Actor[..., None]) -> None:
    for subject_uid, days in (("old", 8), ("young", 6)):
        enqueue(fragile, subject_uid)
        OutboxMessage.objects.filter(subject_uid=subject_uid).update(
            done_at=timezone.now() - timedelta(days=days)
        )
    forget_done()
    assert [row.subject_uid for row in OutboxMessage.objects.all()] == ["young"]
