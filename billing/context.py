"""What every page may say about money."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.http import HttpRequest

from billing import gateway
from billing.entitlements import account_of, grace_end


@dataclass(frozen=True, slots=True)
class PastDue:
    """Say until when a failed payment can be made good."""

    until: datetime


def payments(request: HttpRequest) -> dict[str, Any]:
    """Tell whether payments are taken here, and of a team whose payment failed (one query where they are)."""
    actor = getattr(request, "actor", None)
    if not gateway.is_on() or actor is None:
        return {"payments_on": gateway.is_on(), "past_due": None}
    account = account_of(actor.team)
    until = grace_end(account) if account is not None else None
    return {"payments_on": True, "past_due": PastDue(until) if until else None}
