"""Recurring duties of the projects app."""

from __future__ import annotations

from core.api.idempotency import purge_idempotency_records
from core.periodic import every
from projects.services.intake import give_up_stuck
from projects.services.uploads import delete_expired


@every(300)
def delete_expired_uploads() -> None:
    """Delete uploads that were never finished, a day after their last byte, and end those that got stuck."""
    delete_expired()
    give_up_stuck()


@every(3600)
def forget_idempotency_keys() -> None:
    """Delete kept answers of the API that are older than a day."""
    purge_idempotency_records()
