"""Restricted projects: who is not on a project's list finds nothing of it, wherever it is looked for.

`seen_by` is the only filter; a test walks every address with a member who is not on the list.
"""

from __future__ import annotations

from typing import Any

from django.db.models import Exists, OuterRef, Q

from accounts.actor import Actor
from core.tenancy.models import TenantQuerySet
from projects.models import ProjectMember


def seen_by(actor: Actor, rows: TenantQuerySet, project: str = "project") -> TenantQuerySet:
    """Narrow rows of the actor's team to those whose project (at the path `project`) the actor may see.

    Owners and admins see every project; a key sees what its maker sees.
    """
    if actor.sees_all_projects:
        return rows
    on_list = ProjectMember.objects.for_team(actor.team).filter(user=actor.user)
    open_to_all = Q(**{f"{project}__is_restricted": False} if project else {"is_restricted": False})
    mine = Q(**{f"{project}__in" if project else "pk__in": on_list.values("project")})
    return rows.filter(open_to_all | mine)


def seen_blobs(actor: Actor, rows: TenantQuerySet) -> TenantQuerySet:
    """Narrow stored pictures to those that some row in a project the actor may see leads to."""
    if actor.sees_all_projects:
        return rows
    from projects.models import DatasetVersionItem, Item, LoraSample

    def leads(model: Any, project: str) -> Exists:
        return Exists(seen_by(actor, model.objects.for_team(actor.team).filter(blob=OuterRef("pk")), project))

    return rows.filter(
        leads(Item, "dataset__project")
        | leads(DatasetVersionItem, "version__dataset__project")
        | leads(LoraSample, "version__model__project")
    )
