"""What people are told, and how each kind reaches them unless they choose otherwise."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy


class Kind(models.TextChoices):
    TRAINING_DONE = "training.done", gettext_lazy("A training of mine is done")
    TRAINING_FAILED = "training.failed", gettext_lazy("A training of mine failed")
    TRAINING_CANCELED = "training.canceled", gettext_lazy("Somebody else canceled a training of mine")
    TRAINING_RESTS = "training.rests", gettext_lazy("A training of mine rests: the GPU time is used up")
    TRAINING_PREEMPTED = "training.preempted", gettext_lazy("A training of mine made room for another")
    MEMBER_JOINED = "member.joined", gettext_lazy("Somebody joined a team that I manage")
    WEBHOOK_DISABLED = "webhook.disabled", gettext_lazy("A webhook of a team that I manage was switched off")
    LIMIT_NEAR = "limit.near", gettext_lazy("A limit of a team that I manage is near or reached")
    PAYMENT = "payment", gettext_lazy("The plan of a team that I manage changed")
    PLAN_AT_RISK = "plan.at_risk", gettext_lazy("A payment of a team that I manage failed, or its plan ended")


class MailWhen(models.TextChoices):
    AT_ONCE = "at_once", gettext_lazy("At once")
    DAILY = "daily", gettext_lazy("Once a day")
    NEVER = "never", gettext_lazy("Never")


USUAL: dict[Kind, MailWhen] = {
    Kind.TRAINING_DONE: MailWhen.AT_ONCE,
    Kind.TRAINING_FAILED: MailWhen.AT_ONCE,
    Kind.TRAINING_CANCELED: MailWhen.DAILY,
    Kind.TRAINING_RESTS: MailWhen.AT_ONCE,
    Kind.TRAINING_PREEMPTED: MailWhen.DAILY,
    Kind.MEMBER_JOINED: MailWhen.DAILY,
    Kind.WEBHOOK_DISABLED: MailWhen.AT_ONCE,
    Kind.LIMIT_NEAR: MailWhen.AT_ONCE,
    Kind.PAYMENT: MailWhen.AT_ONCE,
    Kind.PLAN_AT_RISK: MailWhen.AT_ONCE,
}
# A higher layer writes these mails itself, with pictures, the cause or what to do; it asks `mail_choice` first.
MAILED_BY_OTHERS = frozenset({Kind.TRAINING_DONE, Kind.TRAINING_FAILED, Kind.PLAN_AT_RISK})
# State of ui.py, for the icon.
STATE_OF: dict[str, str] = {
    Kind.TRAINING_DONE: "succeeded",
    Kind.TRAINING_FAILED: "failed",
    Kind.TRAINING_CANCELED: "canceled",
    Kind.TRAINING_RESTS: "paused",
    Kind.TRAINING_PREEMPTED: "paused",
    Kind.MEMBER_JOINED: "info",
    Kind.WEBHOOK_DISABLED: "warning",
    Kind.LIMIT_NEAR: "warning",
    Kind.PAYMENT: "info",
    Kind.PLAN_AT_RISK: "warning",
}


def title_of(kind: str, *, name: str, who: str, team: str) -> str:
    """Say in one sentence, in the active language, what happened."""
    values = {"name": name, "who": who, "team": team}
    return {
        Kind.TRAINING_DONE: _("“%(name)s” is ready"),
        Kind.TRAINING_FAILED: _("“%(name)s” failed"),
        Kind.TRAINING_CANCELED: _("%(who)s canceled “%(name)s”"),
        Kind.TRAINING_RESTS: _("“%(name)s” rests: the GPU time of %(team)s is used up"),
        Kind.TRAINING_PREEMPTED: _(
            "“%(name)s” made room for another training and goes on when it is its turn"
        ),
        Kind.MEMBER_JOINED: _("%(name)s joined %(team)s"),
        Kind.WEBHOOK_DISABLED: _("The webhook to %(name)s was switched off"),
        # What the subject's name says by itself, in the words of whoever made it.
        Kind.LIMIT_NEAR: "%(team)s: %(name)s",
        Kind.PAYMENT: "%(team)s: %(name)s",
        Kind.PLAN_AT_RISK: "%(team)s: %(name)s",
    }.get(Kind(kind), "%(name)s") % values
