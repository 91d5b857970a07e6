"""Express: a head start in the queue that is paid for."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.utils.translation import gettext as _

from accounts.models import Team
from billing.entitlements import plan_of
from core.errors import DomainError
from training.queue.rules import rules


def place_in_line(queued_at: datetime, *, is_express: bool) -> datetime:
    """Return where a job queued at this moment stands in its team's line (one query for an express one)."""
    return queued_at - timedelta(seconds=rules().express_boost) if is_express else queued_at


def rate_of(team: Team, *, is_express: bool, gpus: int) -> float:
    """Return what a second of a new job is charged as; raise DomainError for express where no second is charged."""
    if not is_express:
        return float(gpus)
    if not plan_of(team).is_metered:
        raise DomainError(
            "express_not_offered",
            _(
                "Your plan does not pay by GPU time, so there is no express. The training starts as soon as it can."
            ),
            pointer="/priority",
        )
    return rules().express_rate * gpus
