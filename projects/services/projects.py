"""Make, rename and archive projects."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.actor import Actor, require
from accounts.listeners import MemberChange
from accounts.models import User
from accounts.roles import Can
from accounts.selectors import team_members
from accounts.services.audit import audit
from core.errors import Conflict, DomainError, NotFound
from core.realtime.access import tell_access_changed
from projects.models import Project, ProjectMember
from projects.visibility import seen_by

MAX_NAME = 80


def create_project(
    *, actor: Actor, name: str, description: str = "", metadata: Mapping[str, str] | None = None
) -> Project:
    """Make a project; raise DomainError (`name_missing`) or Conflict (`name_taken`)."""
    require(actor, Can.PROJECT_EDIT)
    name = checked_name(name)
    try:
        with transaction.atomic():
            project: Project = Project.objects.create(
                team=actor.team,
                name=name,
                description=description.strip(),
                metadata=dict(metadata or {}),
                created_by=actor.user,
            )
            audit(actor, "project.created", project)
    except IntegrityError as error:
        raise taken(error, "projects_project_name") from error
    return project


def change_project(
    *,
    actor: Actor,
    uid: str,
    name: str | None = None,
    description: str | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Project:
    """Rename or describe a project, or replace the caller's notes on it; what is None stays."""
    require(actor, Can.PROJECT_EDIT)
    try:
        with transaction.atomic():
            project = locked_project(actor, uid)
            before = _told(project)
            project.name = checked_name(name) if name is not None else project.name
            project.description = description.strip() if description is not None else project.description
            project.metadata = dict(metadata) if metadata is not None else project.metadata
            project.save(update_fields=["name", "description", "metadata"])
            after = _told(project)
            audit(actor, "project.changed", project, before=before, after=after)
    except IntegrityError as error:
        raise taken(error, "projects_project_name") from error
    return project


def _told(project: Project) -> dict[str, object]:
    return {"name": project.name, "description": project.description, "metadata": project.metadata}


def change_visibility(
    *, actor: Actor, uid: str, is_restricted: bool, user_uids: Collection[str] | None = None
) -> Project:
    """Restrict a project to its list, or open it to the team; `user_uids` is the new list, None leaves it.

    It holds at once.

    Raise DomainError (`not_a_member`) for somebody who is not in the team.
    """
    require(actor, Can.PROJECT_ALL)
    with transaction.atomic():
        project = locked_project(actor, uid)
        rows = ProjectMember.objects.for_team(actor.team).filter(project=project)
        before = sorted(rows.values_list("user__uid", flat=True))
        user_uids = before if user_uids is None else user_uids
        members = {m.user.uid: m.user_id for m in team_members(actor)}
        unknown = set(user_uids) - set(members)
        if unknown:
            raise DomainError(
                "not_a_member", _("Only members of the team can be on the list."), pointer="/members"
            )
        rows.exclude(user__uid__in=user_uids).delete()
        ProjectMember.objects.bulk_create(
            [
                ProjectMember(team=actor.team, project=project, user_id=members[user_uid])
                for user_uid in sorted(set(user_uids) - set(before))
            ]
        )
        was, project.is_restricted = project.is_restricted, is_restricted
        project.save(update_fields=["is_restricted"])
        audit(
            actor,
            "project.visibility_changed",
            project,
            before={"is_restricted": was, "members": before},
            after={"is_restricted": is_restricted, "members": sorted(user_uids)},
        )
        transaction.on_commit(tell_access_changed, robust=True)
    return project


def forget_member(actor: Actor, person: User, change: MemberChange) -> None:
    """Take a person who left the team off the lists of its projects: who comes back is put on them anew."""
    if not change.is_added:
        ProjectMember.objects.for_team(actor.team).filter(user=person).delete()


def archive_project(*, actor: Actor, uid: str, archived: bool = True) -> Project:
    """Take a project out of the list, or back into it; what it holds stays as it is."""
    require(actor, Can.PROJECT_EDIT)
    with transaction.atomic():
        project = locked_project(actor, uid)
        if archived != (project.archived_at is not None):
            project.archived_at = timezone.now() if archived else None
            project.save(update_fields=["archived_at"])
            audit(actor, "project.archived" if archived else "project.restored", project)
    return project


def locked_project(actor: Actor, uid: str) -> Project:
    """Return a project of the actor's team under its row lock; raise NotFound."""
    project: Project | None = (
        seen_by(actor, Project.objects.for_team(actor.team), "")
        .select_for_update(no_key=True, of=("self",))
        .filter(uid=uid)
        .first()
    )
    if project is None:
        raise NotFound
    return project


def refuse_archived(project: Project) -> None:
    """Raise Conflict (`project_archived`) for a project in the archive: nothing new comes into it."""
    if project.archived_at is not None:
        raise Conflict("project_archived", _("This project is archived. Restore it first."))


def checked_name(name: str) -> str:
    """Return a name without outer blanks; raise DomainError when nothing, or too much, is left."""
    name = " ".join(name.split())
    if not name or "\0" in name:
        raise DomainError("name_missing", _("Give it a name."), pointer="/name")
    if len(name) > MAX_NAME:
        raise DomainError(
            "name_too_long",
            _("A name has at most %(limit)s characters.") % {"limit": MAX_NAME},
            pointer="/name",
        )
    return name


def taken(error: IntegrityError, constraint: str) -> Exception:
    """Turn the database's refusal of a second name into a Conflict; any other error stays itself."""
    if constraint not in str(error):
        return error
    return Conflict("name_taken", _("There is one of this name already. Choose another."), pointer="/name")
