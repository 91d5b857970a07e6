"""The constants of this installation."""

from __future__ import annotations

from training.models import QueueSettings
from training.queue.policy import Rules


def rules() -> Rules:
    """Return the constants of the queue as the operator set them (one query)."""
    row = QueueSettings.objects.first()
    return row.rules() if row is not None else Rules()
