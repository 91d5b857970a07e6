"""What can be told to other programs: the names of events, and what an event says of its subject."""

from __future__ import annotations

from dataclasses import dataclass, field

from django.db import models
from django.utils.translation import gettext_lazy as _


class EventType(models.TextChoices):
    """Name each event; the value is the `type` that a receiver gets."""

    TRAINING_QUEUED = "training.queued", _("A training waits in the queue")
    TRAINING_STARTED = "training.started", _("A training begins on a worker")
    TRAINING_CHECKPOINT = "training.checkpoint", _("A training saved a checkpoint")
    TRAINING_PREEMPTED = "training.preempted", _("A training made room for another")
    TRAINING_PAUSED = "training.paused", _("A training rests")
    TRAINING_SUCCEEDED = "training.succeeded", _("A training is done")
    TRAINING_FAILED = "training.failed", _("A training failed")
    TRAINING_CANCELED = "training.canceled", _("A training was canceled")
    TRAINING_STOPPED = "training.stopped", _("A training was stopped and kept")
    DATASET_VERSION_READY = "dataset_version.ready", _("A picture set was frozen")
    MODEL_VERSION_CREATED = "model_version.created", _("A model has a new version")
    MODEL_VERSION_APPROVED = "model_version.approved", _("A model version was approved")
    MODEL_VERSION_ALIAS_CHANGED = "model_version.alias_changed", _("A name points to another version")
    COMPARISON_COMPLETED = "comparison.completed", _("A comparison is complete")
    COMMENT_CREATED = "comment.created", _("Somebody wrote a comment")
    QUOTA_WARNING = "quota.warning", _("A limit is near")
    QUOTA_EXCEEDED = "quota.exceeded", _("A limit is reached")
    INVOICE_PAID = "invoice.paid", _("An invoice was paid")
    INVOICE_FAILED = "invoice.failed", _("An invoice could not be paid")
    MEMBER_ADDED = "member.added", _("Somebody joined the team")
    MEMBER_REMOVED = "member.removed", _("Somebody left the team")
    TEST = "webhook.test", _("Test message")


# Nobody sends these yet, so nobody is offered them; a test fails when one of them is sent after all.
NOT_YET = frozenset(
    {
        EventType.MODEL_VERSION_APPROVED,
        EventType.MODEL_VERSION_ALIAS_CHANGED,
        EventType.COMPARISON_COMPLETED,
        EventType.COMMENT_CREATED,
    }
)
# What an endpoint may ask for.
OFFERED = tuple(kind for kind in EventType if kind not in NOT_YET and kind != EventType.TEST)


@dataclass(frozen=True, slots=True)
class Subject:
    """Say what an event is about: its id, its name for people and the path of its page; `more` goes into the body.

    Everything is plain text and numbers. No logs, no captions: the body stays small, and a receiver that wants more
    asks the API by the id.
    """

    uid: str
    kind: str
    name: str
    path: str = ""
    more: dict[str, str | int | float | bool | dict[str, str] | None] = field(default_factory=dict)
