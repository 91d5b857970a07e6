"""Teams and who belongs to them. Everything a customer owns belongs to a team."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from accounts.roles import Role
from core.ids import UidField


class Team(models.Model):
    """A tenant. Its slug is in every web address, its uid in every storage key."""

    uid = UidField("team")
    slug = models.SlugField(_("address"), max_length=50, unique=True)
    name = models.CharField(_("name"), max_length=80)
    is_demo = models.BooleanField(_("demo team"), default=False)
    require_two_factor = models.BooleanField(_("second factor required"), default=False)
    # A deleted team is closed to everybody at once and erased two weeks later.
    deleted_at = models.DateTimeField(null=True, blank=True)
    # From here on there is no way back.
    erasing_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.name


class Membership(models.Model):
    """One person's role in one team."""

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(_("role"), max_length=10, choices=Role.choices)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["team", "user"], name="accounts_membership_once"),
            models.CheckConstraint(condition=models.Q(role__in=Role.values), name="accounts_membership_role"),
        ]

    def __str__(self) -> str:
        return f"{self.user} ({self.role})"
