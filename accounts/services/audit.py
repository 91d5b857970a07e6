"""Write the audit log."""

from __future__ import annotations

from typing import Any

from accounts.actor import Actor, operator_email
from accounts.models import AuditEvent


def audit(actor: Actor, verb: str, subject: Any, **data: Any) -> None:
    """Record that `actor` did `verb` to `subject` (a row with a uid); call inside the same transaction."""
    if operator := operator_email.get():
        data["operator"] = operator
    AuditEvent.objects.create(
        team=actor.team,
        user=actor.user,
        api_key_uid=actor.api_key.uid if actor.api_key else "",
        verb=verb,
        subject_uid=subject.uid,
        subject_name=str(subject)[:200],
        data=data,
    )
