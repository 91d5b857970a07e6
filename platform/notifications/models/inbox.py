"""What people are told: a numbered list for each person, and how they want to hear of each kind.

These rows belong to a person and not to a team. They know their subject by id, name and path only; what a team's
page says is behind the team's own door.
"""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q

from core.ids import UidField
from notifications.kinds import STATE_OF, Kind, MailWhen, title_of


class Inbox(models.Model):
    """One person's counter. Its row is the lock that keeps the numbers dense."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="inbox")
    last_seq = models.PositiveIntegerField(default=0)
    # The day, where the person lives, that the last digest belongs to.
    digest_on = models.DateField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.user_id} @{self.last_seq}"


class Notification(models.Model):
    """One line in a person's list. `seq` is dense per person: a browser sees a gap at once."""

    uid = UidField("ntf")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="notifications")
    seq = models.PositiveIntegerField()
    kind = models.CharField(max_length=40, choices=Kind.choices)
    team_uid = models.CharField(max_length=40)
    team_name = models.CharField(max_length=80)
    subject_uid = models.CharField(max_length=40)
    subject_name = models.CharField(max_length=200)
    path = models.CharField(max_length=200, blank=True)
    who = models.CharField(max_length=100, blank=True)
    mail = models.CharField(max_length=10, choices=MailWhen.choices)
    created_at = models.DateTimeField(auto_now_add=True)
    read_at = models.DateTimeField(null=True, blank=True)
    mailed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "seq"], name="notifications_notification_seq"),
            models.CheckConstraint(condition=Q(kind__in=Kind.values), name="notifications_notification_kind"),
        ]
        indexes = [
            models.Index(fields=["user"], condition=Q(read_at=None), name="notifications_unread"),
            models.Index(
                fields=["user"],
                condition=Q(mail="daily", mailed_at=None),
                name="notifications_for_digest",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.subject_name}"

    @property
    def title(self) -> str:
        """Say in the active language what happened."""
        return title_of(self.kind, name=self.subject_name, who=self.who, team=self.team_name)

    @property
    def state(self) -> str:
        """Give the state whose icon and colour fit."""
        return STATE_OF.get(self.kind, "info")


class NotificationChoice(models.Model):
    """How one person wants to hear of one kind; without a row the usual way holds."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="notification_choices"
    )
    kind = models.CharField(max_length=40, choices=Kind.choices)
    mail = models.CharField(max_length=10, choices=MailWhen.choices)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "kind"], name="notifications_choice_once"),
            models.CheckConstraint(condition=Q(mail__in=MailWhen.values), name="notifications_choice_mail"),
        ]

    def __str__(self) -> str:
        return f"{self.kind}: {self.mail}"
