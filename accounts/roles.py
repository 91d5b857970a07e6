"""Roles and what each may do: the one table of permissions."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class Role(models.TextChoices):
    OWNER = "owner", _("Owner")
    ADMIN = "admin", _("Admin")
    EDITOR = "editor", _("Editor")
    REVIEWER = "reviewer", _("Reviewer")
    VIEWER = "viewer", _("Viewer")
    BILLING = "billing", _("Billing")


class Can(models.TextChoices):
    """Name each permission; the value is also the scope of an API key (`resource:read|write`) where one fits."""

    TEAM_VIEW = "team:read", _("See the team")
    TEAM_MANAGE = "team:write", _("Change the team's settings")
    API_KEYS = "api_keys:write", _("Make and revoke API keys")
    PROJECT_VIEW = "projects:read", _("See projects")
    PROJECT_EDIT = "projects:write", _("Make and change projects")
    DATASET_VIEW = "datasets:read", _("See datasets")
    DATASET_EDIT = "datasets:write", _("Upload and caption pictures")
    TRAINING_VIEW = "trainings:read", _("See trainings")
    TRAINING_EDIT = "trainings:write", _("Start and stop trainings")
    MODEL_VIEW = "models:read", _("See models")
    MODEL_EDIT = "models:write", _("Make and change model versions")
    WEIGHTS_DOWNLOAD = "weights:read", _("Download weights")


_VIEW = {Can.TEAM_VIEW, Can.PROJECT_VIEW, Can.DATASET_VIEW, Can.TRAINING_VIEW, Can.MODEL_VIEW}
_EDIT = _VIEW | {
    Can.PROJECT_EDIT,
    Can.DATASET_EDIT,
    Can.TRAINING_EDIT,
    Can.MODEL_EDIT,
    Can.WEIGHTS_DOWNLOAD,
}

ROLE_CAN: dict[Role, frozenset[Can]] = {
    Role.OWNER: frozenset(Can),
    Role.ADMIN: frozenset(Can),
    Role.EDITOR: frozenset(_EDIT),
    Role.REVIEWER: frozenset(_VIEW),
    Role.VIEWER: frozenset(_VIEW),
    Role.BILLING: frozenset({Can.TEAM_VIEW}),
}

# What a new key may do unless its maker narrows it; never more than the maker may.
KEY_SCOPES: tuple[Can, ...] = (
    Can.PROJECT_VIEW,
    Can.PROJECT_EDIT,
    Can.DATASET_VIEW,
    Can.DATASET_EDIT,
    Can.TRAINING_VIEW,
    Can.TRAINING_EDIT,
    Can.MODEL_VIEW,
    Can.MODEL_EDIT,
    Can.WEIGHTS_DOWNLOAD,
)
