"""What the training app forgets by itself: old logs and checkpoints; and what deleted teams still do."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.core.cache import cache
from django.db import transaction
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import Team
from accounts.services.retention import note_forgotten
from billing.entitlements import checkpoints_kept_for, is_kept_for_now
from core.periodic import every
from core.retention import Kept, register_kept
from projects.models import LoraFile
from training.models import Checkpoint, JobEvent, TrainingJob
from training.services.lifecycle import append_events, move
from training.states import LIVE, Desired, JobState

_AT_ONCE = 10_000
# Of trainings that ended, whose `metrics` events go: so many at a time, and so many rows in one run at most.
_JOBS_AT_ONCE = 100
_MOST_AT_ONCE = 500_000
_TIDIED = "metrics-events-tidied-until"


def _events_kept_for() -> timedelta:
    return timedelta(days=settings.KEEP_EVENTS_DAYS)


def _metrics_events_kept_for() -> timedelta:
    return timedelta(days=settings.KEEP_METRICS_EVENTS_DAYS)


register_kept(
    Kept(
        "checkpoints",
        _("Earlier checkpoints"),
        checkpoints_kept_for,
        _("After the end of their training, by your plan. The newest file stays."),
    ),
    Kept(
        "events",
        _("The log of a training"),
        lambda team: _events_kept_for(),
        _("After its end. Curve, samples and files stay."),
    ),
    Kept(
        "metrics_events",
        _("The points of the curve in the log of a training"),
        lambda team: _metrics_events_kept_for(),
        _("After its end. The curve itself stays."),
    ),
    Kept(
        "states",
        _("What a training needs to resume"),
        lambda team: timedelta(0),
        _("Deleted when the training has ended."),
    ),
)


@every(3600)
def forget_old_events() -> int:
    """Delete the events of trainings that ended long ago; return how many rows went."""
    before = timezone.now() - _events_kept_for()
    old = JobEvent.unscoped.filter(job__finished_at__lt=before)
    deleted = 0
    for team in Team.objects.filter(pk__in=old.values("team")):
        rows = JobEvent.objects.for_team(team).filter(job__finished_at__lt=before).order_by("pk")
        with transaction.atomic():
            gone, _by_model = (
                JobEvent.objects.for_team(team)
                .filter(pk__in=list(rows.values_list("pk", flat=True)[:_AT_ONCE]))
                .delete()
            )
            note_forgotten(team, "events", count=gone)
        deleted += gone
    return deleted


@every(3600)
def forget_metrics_events() -> int:
    """Delete the `metrics` events of trainings that ended a day ago, and return how many rows went.

    The curves (`MetricChunk`) hold the points, so nothing is reported as forgotten. Their seqs leave gaps: whoever
    follows is told that nothing is left between two events (`core.realtime.stream.Part`).
    """
    before = timezone.now() - _metrics_events_kept_for()
    ended = TrainingJob.unscoped.filter(finished_at__lt=before)
    # Only a note: without it all that ended is looked through again. An hour more, for what was under way then.
    if (done := cache.get(_TIDIED)) is not None:
        ended = ended.filter(finished_at__gte=done - timedelta(hours=1))
    deleted, jobs = 0, list(ended.order_by("finished_at").values_list("pk", flat=True))
    for first in range(0, len(jobs), _JOBS_AT_ONCE):
        rows = JobEvent.unscoped.filter(job__in=jobs[first : first + _JOBS_AT_ONCE], type="metrics")
        is_more = True
        while is_more:
            # Each statement with a commit of its own: nobody waits long for what it holds.
            found = list(rows.values_list("pk", flat=True)[:_AT_ONCE])
            deleted += JobEvent.unscoped.filter(pk__in=found).delete()[0]
            is_more = len(found) == _AT_ONCE
            if deleted >= _MOST_AT_ONCE:
                return deleted
    cache.set(_TIDIED, before, timeout=None)
    return deleted


@every(3600)
def forget_old_checkpoints() -> int:
    """Delete the earlier checkpoints that a team's plan keeps no longer; return how many files went.

    The finished file of every training stays, and the newest one of a training that ended without. The bytes go when
    nothing names them any more (`projects.duties`).
    """
    forgotten = 0
    with_some = Checkpoint.unscoped.filter(
        is_final=False, export__isnull=False, job__finished_at__isnull=False
    )
    for team in Team.objects.filter(pk__in=with_some.values("team")):
        span = checkpoints_kept_for(team)
        if span is not None and not is_kept_for_now(team):
            forgotten += _forget_checkpoints(team, timezone.now() - span)
    return forgotten


def _forget_checkpoints(team: Team, before: datetime) -> int:
    with transaction.atomic():
        files = Checkpoint.objects.for_team(team).filter(export__isnull=False)
        newer = files.filter(Q(is_final=True) | Q(step__gt=OuterRef("step")), job=OuterRef("job"))
        rows = files.filter(Exists(newer), is_final=False, job__finished_at__lt=before)
        old = list(rows.select_related("export", "job").order_by("pk")[:_AT_ONCE])
        if not old:
            return 0
        # The model's page offers the same files.
        LoraFile.objects.for_team(team).filter(
            is_final=False,
            version__training_uid__in={each.job.uid for each in old},
            blob__in={each.export_id for each in old},
        ).delete()
        Checkpoint.objects.for_team(team).filter(pk__in=[each.pk for each in old]).update(export=None)
        size = sum({each.export_id: each.export.size for each in old if each.export}.values())
        note_forgotten(team, "checkpoints", count=len(old), size=size)
        return len(old)


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
