"""What the operators' pages of all apps share."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _


class ReadOnly:
    """Let an operator look and change nothing: what the rows mean is kept by services."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class TenantForm(forms.ModelForm):  # type: ignore[type-arg]
    """Name the team of a row in the reader's language."""

    class Meta:
        labels = {"team": _("team")}


class OfTeam:
    """Name what every row of a team has: the model that they share gives no names, so that no app migrates for them."""

    form: Any = TenantForm

    @admin.display(description=_("team"), ordering="team")
    def of_team(self, row: Any) -> str:
        return str(row.team)

    @admin.display(description=_("created at"), ordering="created_at")
    def was_created_at(self, row: Any) -> datetime:
        moment: datetime = row.created_at
        return moment
