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
    TEAM_OWN = "team:own", _("Hand over or delete the team")
    MEMBERS = "members:write", _("Invite, change and remove members")
    API_KEYS = "api_keys:write", _("Make and revoke one's own API keys")
    API_KEYS_ALL = "api_keys:all", _("See and revoke everybody's API keys")
    WEBHOOKS = "webhooks:write", _("Set up webhooks")
    AUDIT_VIEW = "audit:read", _("Read the audit log")
    USAGE_VIEW = "usage:read", _("See what was used")
    BILLING = "billing:write", _("Choose the plan, pay, and set the spend limit")
    EXPORT = "exports:write", _("Export everything the team owns")
    PROJECT_ALL = "projects:all", _("See restricted projects without being on their list")
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
    Can.API_KEYS,
    Can.PROJECT_EDIT,
    Can.DATASET_EDIT,
    Can.TRAINING_EDIT,
    Can.MODEL_EDIT,
    Can.WEIGHTS_DOWNLOAD,
}

ROLE_CAN: dict[Role, frozenset[Can]] = {
    Role.OWNER: frozenset(Can),
    Role.ADMIN: frozenset(Can) - {Can.TEAM_OWN, Can.EXPORT},
    Role.EDITOR: frozenset(_EDIT),
    Role.REVIEWER: frozenset(_VIEW),
    Role.VIEWER: frozenset(_VIEW),
    Role.BILLING: frozenset({Can.TEAM_VIEW, Can.USAGE_VIEW, Can.BILLING}),
}

# The strongest first; who gives or takes a role stands at least as high as it.
RANK: tuple[Role, ...] = tuple(Role)


def may_grant(giver: Role, role: Role) -> bool:
    """Tell whether a person with `giver` may give or take `role`: nobody hands out more than they have."""
    return RANK.index(giver) <= RANK.index(role)


# What a new key may do unless its maker chooses otherwise; never more than the maker may.
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

# What a key may be given beyond that. Handing over a team or exporting it takes a person.
KEY_SCOPES_MORE: tuple[Can, ...] = (
    Can.TEAM_VIEW,
    Can.TEAM_MANAGE,
    Can.MEMBERS,
    Can.API_KEYS,
    Can.WEBHOOKS,
    Can.AUDIT_VIEW,
    Can.USAGE_VIEW,
)
