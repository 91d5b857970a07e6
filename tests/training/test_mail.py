"""Mails about how a training ended: to its maker, in their language, with the picture or the cause and its fix."""

from __future__ import annotations

from email.message import Message
from typing import Any

import pytest
from django.core import mail
from django.core.mail import EmailMultiAlternatives
from django.db import transaction
from django.utils import timezone

from core.models import OutboxMessage
from tests.factories import png_bytes
from tests.scenario import Scenario
from tests.training.queueing import Bench
from tests.training.rows import make_blob
from training.models import Checkpoint, Sample, TrainingJob
from training.queue.lease import Lease
from training.services import finalize, lifecycle
from training.services.lifecycle import CrashReport
from training.tasks import mail_outcome


@pytest.fixture
def bench(scenario: Scenario) -> Bench:
    return Bench(scenario.alice)


def fail(lease: Lease, **report: Any) -> None:
    with transaction.atomic():
        lifecycle.fail_job(lifecycle.hold(lease), CrashReport(**report))


def succeed(lease: Lease, bench: Bench, *, stopped: bool = False) -> None:
    """End a run well, with a picture before and one after."""
    from training.engine.events import Export

    job = TrainingJob.objects.for_team(lease.team).get(pk=lease.job_id)
    for step, lora in ((0, False), (30, True), (60, True)):
        blob = make_blob(bench.actor, f"drawn {step}")
        Sample.objects.create(
            team=lease.team,
            job=job,
            blob=blob,
            step=step,
            epoch=1,
            prompt_index=0,
            prompt="a cat, ink style",
            seed=42,
            with_lora=lora,
        )
    export = Export("x.safetensors", 7, "", 12, "kohya", "Ink.safetensors")
    finalize.start_finalizing(lease)
    with transaction.atomic():
        row = lifecycle.hold(lease)
        finalize._end(row, make_blob(bench.actor, content=b"weights"), export, 60, stopped)


def deliver() -> list[EmailMultiAlternatives]:
    """Do the waiting work of the mail queue; return what was sent."""
    for message in OutboxMessage.objects.filter(done_at=None, actor="mail_outcome"):
        mail_outcome(message.pk, message.subject_uid)
    return [sent for sent in mail.outbox if isinstance(sent, EmailMultiAlternatives)]


def html_of(sent: EmailMultiAlternatives) -> str:
    return str(sent.alternatives[0][0])


def test_success_shows_the_picture_before_and_after(bench: Bench) -> None:
    job = bench.job("Ink & <b>style</b>")
    succeed(bench.claim(), bench)
    (sent,) = deliver()
    assert sent.to == ["alice@example.org"]
    assert sent.subject == "Ready: Ink & <b>style</b>"
    assert f"/t/atelier/trainings/{job.uid}/" in str(sent.body)
    assert "Ink & <b>style</b> v1" in str(sent.body)
    html = html_of(sent)
    assert "Ink &amp; &lt;b&gt;style&lt;/b&gt;" in html
    assert "<b>style</b>" not in html
    assert "cid:before" in html
    assert "cid:after" in html
    parts = [part for part in sent.attachments if isinstance(part, Message)]
    pictures = {str(part["Content-ID"]): part.get_payload(decode=True) for part in parts}
    assert pictures == {
        "<before>": png_bytes((64, 64), "drawn 0"),
        "<after>": png_bytes((64, 64), "drawn 60"),
    }


def test_a_stopped_training_says_that_it_is_kept(bench: Bench) -> None:
    bench.job()
    succeed(bench.claim(), bench, stopped=True)
    (sent,) = deliver()
    assert sent.subject == "Stopped and kept: Ink style"
    assert "stopped at step 60 of 60" in str(sent.body)


def test_failure_tells_cause_fix_and_the_settings_that_help(bench: Bench) -> None:
    job = bench.job()
    lease = bench.claim()
    fail(
        lease,
        code="out_of_memory",
        message="CUDA out of memory",
        category="capacity",
        hint="Train at 448 pixels",
        patch={"/training/batch_size": 1},
    )
    (sent,) = deliver()
    body = str(sent.body)
    assert sent.subject == "Failed: Ink style"
    assert "The run does not fit into the memory of the device." in body
    assert "Compute fewer pictures at once" in body
    assert "- Batch size: 1" in body
    assert "CUDA out of memory" in body
    assert f"/t/atelier/trainings/{job.uid}/" in body
    assert "Batch size: 1" in html_of(sent)


def test_a_reader_of_chinese_gets_it_in_chinese(bench: Bench) -> None:
    bench.actor.user.language = "zh-hans"
    bench.actor.user.save()
    bench.job()
    fail(bench.claim(), code="worker_lost", message="silent")
    (sent,) = deliver()
    assert sent.subject == "失败：Ink style"
    assert "原因" in str(sent.body)
    assert "Why" not in html_of(sent)


def test_an_unknown_failure_is_told_in_the_engines_own_words(bench: Bench) -> None:
    bench.job()
    fail(bench.claim(), code="brand_new", message="The moon is full.", category="user", hint="Wait a week.")
    (sent,) = deliver()
    assert "The moon is full." in str(sent.body)
    assert "Wait a week." in str(sent.body)


def test_a_mail_that_is_delivered_twice_is_sent_once(bench: Bench) -> None:
    bench.job()
    fail(bench.claim(), code="worker_lost", message="silent")
    deliver()
    message = OutboxMessage.objects.get(actor="mail_outcome")
    mail_outcome(message.pk, message.subject_uid)
    assert len(mail.outbox) == 1


def test_nobody_is_written_to_about_what_they_canceled_or_when_they_are_gone(bench: Bench) -> None:
    bench.job()
    lease = bench.claim()
    with transaction.atomic():
        lifecycle.cancel_job_now(lifecycle.hold(lease))
    job = bench.job("second")
    fail(bench.claim(), code="worker_lost", message="silent")
    TrainingJob.objects.for_team(job.team).filter(pk=job.pk).update(created_by=None)
    assert deliver() == []
    assert not OutboxMessage.objects.filter(done_at=None).exists()


def test_ending_twice_makes_one_version_and_one_mail(bench: Bench) -> None:
    bench.job()
    lease = bench.claim()
    succeed(lease, bench)
    with pytest.raises(lifecycle.LeaseLost), transaction.atomic():
        lifecycle.hold(lease)
    assert OutboxMessage.objects.filter(actor="mail_outcome").count() == 1
    final = Checkpoint.objects.for_team(bench.actor.team).get(is_final=True)
    assert (final.step, final.created_at <= timezone.now()) == (60, True)
