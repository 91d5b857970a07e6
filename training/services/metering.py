"""Reserve GPU time for trainings, and let those rest that have used theirs up. The ledger itself is billing's."""

from __future__ import annotations

import logging
import math

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from billing.entitlements import plan_of
from billing.selectors import charged_for
from billing.services.ledger import InsufficientCredits, hold
from training.models import TrainingJob
from training.services.announce import announce_rest
from training.services.lifecycle import append_events
from training.states import LIVE, Desired, RestReason

log = logging.getLogger(__name__)

# Estimates are medians, so half of the runs need more; what is not needed comes back at the end.
MARGIN = 1.2
# A run that needs longer gets so much more at a time.
EXTENSION = 600


def reserved_for(seconds: float, rate: float) -> int:
    """Return what is reserved for a run that is expected to take so long, each second charged as `rate`."""
    return max(1, math.ceil(seconds * MARGIN * rate))


def reserve(job: TrainingJob, seconds: float) -> None:
    """Reserve GPU time for a job that is queued, as far as its own cap lets it; raise InsufficientCredits."""
    if job.is_test or not plan_of(job.team).is_metered:
        return
    wanted = reserved_for(seconds, job.rate)
    if job.hard_cap_seconds is not None:
        wanted = min(wanted, job.hard_cap_seconds - charged_for(job.team, job.uid))
        if wanted <= 0:
            raise _cap_reached(math.ceil(seconds))
    hold(job.team, job_uid=job.uid, seconds=wanted)


def seconds_left(job: TrainingJob) -> float:
    """Return how long a job that rested still needs, by its estimate."""
    done = job.step / job.total_steps if job.total_steps else 0.0
    return max(60.0, job.estimated_seconds * (1 - done))


def extend(job: TrainingJob, reserved: int) -> None:
    """Reserve more for a job that runs and has `reserved` so many in all; raise InsufficientCredits."""
    if not plan_of(job.team).is_metered:
        return  # its team moved to a plan that meters nothing
    more = math.ceil(EXTENSION * job.rate)
    if job.hard_cap_seconds is not None:
        more = min(more, job.hard_cap_seconds - reserved)
        if more <= 0:
            raise _cap_reached(EXTENSION)
    hold(job.team, job_uid=job.uid, seconds=more, at_least=1)


def let_rest(job: TrainingJob, error: InsufficientCredits) -> bool:
    """Tell a live job to save and rest because of `error`; False if it was told something already."""
    with transaction.atomic():
        row: TrainingJob | None = (
            TrainingJob.jobs.for_team(job.team)
            .select_related("team", "project", "created_by")
            .select_for_update(no_key=True, of=("self",))
            .filter(pk=job.pk, fence=job.fence, state__in=sorted(LIVE), desired="")
            .first()
        )
        if row is None:
            return False
        row.desired = Desired.PAUSE
        row.rest_reason = RestReason(error.code)
        data = {"state": row.state, "desired": row.desired, "reason": row.rest_reason}
        append_events(row, [("status", timezone.now(), data)])
        row.save(update_fields=["desired", "rest_reason", "last_seq"])
        announce_rest(row)
    log.info("%s rests: %s", job.uid, error.code)
    return True


def _cap_reached(needed: int) -> InsufficientCredits:
    return InsufficientCredits(
        "hard_cap_reached",
        _("This training has used all that its own cap allows. Raise the cap to let it go on."),
        needed_seconds=needed,
        available_seconds=0,
    )
