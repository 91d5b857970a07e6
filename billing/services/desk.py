"""What operators do about money: give GPU time, give it back. Every change has a reason that the team can read."""

from __future__ import annotations

import secrets

from django.db import transaction
from django.utils.translation import gettext as _

from accounts.actor import member_actor
from accounts.models import Team, User
from accounts.roles import Role
from accounts.services.audit import audit
from billing.models import Kind, LedgerTransaction
from billing.services import ledger
from core.errors import DomainError


def grant(*, team: Team, seconds: int, reason: str, by: User) -> None:
    """Give a team GPU time that never lapses; raise DomainError without a reason or for nothing."""
    _require_reason(reason)
    if seconds <= 0:
        raise DomainError("seconds_invalid", _("Give at least one minute."), pointer="/seconds")
    with transaction.atomic():
        key = f"grant:{secrets.token_hex(8)}"
        ledger.add_bought(team, seconds=seconds, key=key, kind=Kind.GRANT, reason=reason, by=by)
        actor = member_actor(team, by, Role.VIEWER)
        audit(actor, "gpu_time.granted", team, seconds=seconds, reason=reason, operator=by.email)


def give_back(*, settled: LedgerTransaction, seconds: int, reason: str, by: User) -> None:
    """Give back what an attempt was charged; raise DomainError without a reason or beyond what it was charged."""
    _require_reason(reason)
    with transaction.atomic():
        ledger.refund(settled.team, settled=settled, seconds=seconds, reason=reason, by=by)
        actor = member_actor(settled.team, by, Role.VIEWER)
        audit(
            actor,
            "gpu_time.refunded",
            settled,
            training=settled.job_uid,
            seconds=seconds,
            reason=reason,
            operator=by.email,
        )


def _require_reason(reason: str) -> None:
    if not reason.strip():
        raise DomainError("reason_missing", _("Say why: the team can read it."), pointer="/reason")
