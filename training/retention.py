"""What the training app forgets by itself: logs of trainings that ended long ago; and what deleted teams still do."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from core.periodic import every
from core.retention import Kept, register_kept
from training.models import JobEvent, TrainingJob
from training.services.lifecycle import append_events, move
from training.states import LIVE, Desired, JobState

_AT_ONCE = 10_000


def _events_kept_for() -> timedelta:
    return timedelta(days=settings.KEEP_EVENTS_DAYS)


register_kept(
    Kept(_("Pictures, versions, models and samples"), lambda: None),
    Kept(
        _("The log of a training"),
        _events_kept_for,
        _("After its end. Curve, samples and files stay."),
    ),
    Kept(
        _("What a training needs to resume"), lambda: timedelta(0), _("Deleted when the training has ended.")
    ),
    Kept(_("Unfinished uploads"), lambda: timedelta(days=1), _("After their last byte.")),
    Kept(_("The bytes of deleted pictures"), lambda: timedelta(days=1)),
)


@every(3600)
def forget_old_events() -> int:
    """Delete the events of trainings that ended long ago; return how many rows went."""
    before = timezone.now() - _events_kept_for()
    old = JobEvent.unscoped.filter(job__finished_at__lt=before).order_by("pk").values("pk")[:_AT_ONCE]
    deleted, _by_model = JobEvent.unscoped.filter(pk__in=list(old.values_list("pk", flat=True))).delete()
    return deleted


@every(30)
def rest_jobs_of_deleted_teams() -> int:
    """Pause what a deleted team still has in the queue or on a worker; a restored team finds it paused."""
    busy = TrainingJob.unscoped.filter(team__deleted_at__isnull=False, desired="").filter(
        state__in=[*LIVE - {JobState.FINALIZING}, JobState.QUEUED]
    )
    found = list(busy.values_list("pk", flat=True)[:200])
    for pk in found:
        with transaction.atomic():
            job = (
                TrainingJob.unscoped.select_related("team", "project", "created_by")
                .select_for_update(no_key=True, of=("self",))
                .get(pk=pk)
            )
            if job.state == JobState.QUEUED:
                move(job, JobState.PAUSED, reason="team_deleted")
            elif job.state in LIVE and not job.desired:
                job.desired = Desired.PAUSE
                append_events(job, [("status", timezone.now(), {"state": job.state, "desired": job.desired})])
                job.save(update_fields=["desired", "last_seq"])
    return len(found)
