"""Write to the person who started a training how it ended."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.urls import reverse
from django.utils import translation

from core import storage
from core.mail import InlinePicture
from notifications.kinds import MailWhen
from notifications.services.mail import write_to
from notifications.services.notify import mail_choice
from training.models import Sample, TrainingJob
from training.services.announce import OUTCOMES
from training.services.explain import explain_failure
from training.states import JobState


def send_outcome(job: TrainingJob) -> bool:
    """Mail the end of `job` to its maker in their language; tell whether there was something to send.

    Nothing is sent when the maker is gone or switched off, wants no such mail now, or when the training did not end
    by itself.
    """
    person = job.created_by
    if person is None or not person.is_active:
        return False
    kind = OUTCOMES.get(JobState(job.state))
    if kind is None or mail_choice(person, kind) != MailWhen.AT_ONCE:
        return False
    if job.state in (JobState.SUCCEEDED, JobState.STOPPED):
        pictures = _pictures(job)
        context = {
            **_about(job),
            "model": job.lora_version,
            "stopped": job.state == JobState.STOPPED,
            "pictures": [picture.name for picture in pictures],
            "prompt": _prompt(job),
            "model_url": _model_url(job),
        }
        write_to(person, "training_succeeded", context, pictures=pictures)
    elif job.state == JobState.FAILED:
        with translation.override(person.language):
            context = {**_about(job), "why": explain_failure(job)}
        write_to(person, "training_failed", context)
    else:
        return False
    return True


def _about(job: TrainingJob) -> dict[str, Any]:
    seconds = (job.finished_at - job.started_at).total_seconds() if job.finished_at and job.started_at else 0
    page = reverse("training:job", kwargs={"slug": job.team.slug, "uid": job.uid})
    return {
        "job": job,
        "project": job.project,
        "seconds": seconds,
        "url": settings.SITE_URL + page,
    }


def _model_url(job: TrainingJob) -> str:
    version = job.lora_version
    if version is None:
        return ""
    address: str = settings.SITE_URL + reverse(
        "projects:model", kwargs={"slug": job.team.slug, "uid": version.model.uid}
    )
    return address


def _shown(job: TrainingJob) -> list[tuple[str, Sample]]:
    """Return the first prompt's picture before and after: without the LoRA, and the newest with it."""
    rows = list(
        Sample.objects.for_team(job.team)
        .filter(job=job, prompt_index=0)
        .select_related("blob")
        .order_by("step")
    )
    before = [row for row in rows if not row.with_lora][:1]
    after = [row for row in rows if row.with_lora][-1:]
    return [*(("before", row) for row in before if after), *(("after", row) for row in after)]


def _pictures(job: TrainingJob) -> list[InlinePicture]:
    return [
        InlinePicture(name, storage.read_bytes(storage.blob_key(job.team.uid, sample.blob.sha256)))
        for name, sample in _shown(job)
    ]


def _prompt(job: TrainingJob) -> str:
    shown = _shown(job)
    return shown[-1][1].prompt if shown else ""
