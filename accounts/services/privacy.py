"""A person leaves for good: what names them goes, but for the audit logs of their teams; what teams own stays."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount
from allauth.usersessions.models import UserSession
from django.contrib.auth.hashers import make_password
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.actor import member_actor
from accounts.listeners import tell_member_change, tell_person_deleted
from accounts.models import AuditEvent, Invitation, Membership, Team, User
from accounts.roles import Role
from accounts.services.audit import audit
from accounts.services.teams import delete_team
from accounts.sessions import end_sessions_of
from core.errors import Conflict, DomainError
from core.mail import send_mail
from core.realtime.access import tell_access_changed

# A domain that is reserved for addresses that never receive mail (RFC 2606).
NOWHERE = "deleted.invalid"


@dataclass(frozen=True, slots=True)
class Farewell:
    """Hold what happens to the teams of a person who leaves."""

    # They are the last owner of these, and others are in them: they must choose first.
    held: list[Team] = field(default_factory=list)
    # Nobody else is in these: they are deleted too.
    closing: list[Team] = field(default_factory=list)
    # These go on without them.
    leaving: list[Team] = field(default_factory=list)


def farewell_of(person: User) -> Farewell:
    """Return what becomes of the teams of `person` when they delete their account (two queries)."""
    mine = Membership.objects.filter(user=person, team__deleted_at=None).select_related("team")
    roles = {membership.team: membership.role for membership in mine.order_by("team__name", "team_id")}
    others: dict[int, list[Membership]] = {team.pk: [] for team in roles}
    for member in Membership.objects.filter(team__in=roles, user__is_active=True).exclude(user=person):
        others[member.team_id].append(member)
    farewell = Farewell()
    for team, role in roles.items():
        if not others[team.pk]:
            farewell.closing.append(team)
        elif role == Role.OWNER and all(member.role != Role.OWNER for member in others[team.pk]):
            farewell.held.append(team)
        else:
            farewell.leaving.append(team)
    return farewell


def delete_person(*, person: User, email: str) -> None:
    """Delete the account of `person`, who confirms it with their address; it cannot be taken back.

    Name, address, ways in, keys and memberships go at once; teams of theirs alone are deleted with the usual two
    weeks. Raise DomainError for a wrong address, Conflict for the last owner of a team that others are in and for
    the last operator.
    """
    if email.strip().lower() != person.email:
        raise DomainError("email_wrong", _("Write your e-mail address to confirm."), pointer="/email")
    address, language = person.email, person.language
    with transaction.atomic():
        # The teams are the locks, always in the same order: of two owners who leave at once one is asked to stay.
        teams = list(Team.objects.select_for_update().filter(memberships__user=person).order_by("pk"))
        farewell = farewell_of(person)
        if farewell.held:
            raise Conflict(
                "last_owner",
                _("You are the last owner of %(teams)s. Hand it over or delete it first.")
                % {"teams": ", ".join(team.name for team in farewell.held)},
            )
        _keep_an_operator(person)
        for team in farewell.closing:
            delete_team(actor=member_actor(team, person, Role.OWNER), name=team.name)
        _revoke_keys(person)
        _anonymise(person)
        for team in teams:
            invitations = Invitation.objects.for_team(team).filter(email=address)
            invitations.exclude(accepted_at=None).update(email=person.email)
            leaver = member_actor(team, person, Role.VIEWER)
            audit(leaver, "member.deleted_account", person)
            tell_member_change(leaver, person, is_added=False, role="")
        tell_person_deleted(person)
        Membership.objects.filter(user=person).delete()
        transaction.on_commit(tell_access_changed, robust=True)
        transaction.on_commit(
            lambda: send_mail("account_deleted", to=address, language=language, context={"email": address}),
            robust=True,
        )


def _keep_an_operator(person: User) -> None:
    operators = User.objects.select_for_update().filter(is_superuser=True, is_active=True)
    if person.is_superuser and not operators.exclude(pk=person.pk).exists():
        raise Conflict(
            "last_operator",
            _("You are the only operator of this installation. Make somebody else an operator first."),
        )


def _revoke_keys(person: User) -> None:
    for key in person.api_keys.filter(revoked_at=None).select_related("team"):
        audit(member_actor(key.team, person, Role.VIEWER), "api_key.revoked", key)
    person.api_keys.filter(revoked_at=None).update(revoked_at=timezone.now())


def _anonymise(person: User) -> None:
    """Take everything from the row that names the person, and every way in."""
    person.name, person.email = "", f"{person.uid}@{NOWHERE}".lower()
    person.password = make_password(None)
    person.is_active = person.is_staff = person.is_superuser = False
    person.language, person.time_zone = "en", "UTC"
    person.last_login, person.deleted_at = None, timezone.now()
    person.save()
    person.groups.clear()
    person.user_permissions.clear()
    for kind in (EmailAddress, Authenticator, SocialAccount):
        kind.objects.filter(user=person).delete()
    end_sessions_of(person)


def person_data(person: User) -> dict[str, Any]:
    """Return everything that is kept about `person` themselves, as plain values. What teams own is the teams'."""
    memberships = Membership.objects.filter(user=person).select_related("team").order_by("pk")
    changes = AuditEvent.unscoped.filter(user_id=person.pk).select_related("team").order_by("pk")
    return {
        "profile": {
            "id": person.uid,
            "email": person.email,
            "name": person.name,
            "language": person.language,
            "time_zone": person.time_zone,
            "joined": person.date_joined,
            "last_login": person.last_login,
        },
        "addresses": list(EmailAddress.objects.filter(user=person).values("email", "verified", "primary")),
        "second_factors": list(
            Authenticator.objects.filter(user=person).values("type", "created_at", "last_used_at")
        ),
        "other_logins": list(
            SocialAccount.objects.filter(user=person).values("provider", "uid", "date_joined")
        ),
        "sessions": list(
            UserSession.objects.filter(user=person).values("ip", "user_agent", "created_at", "last_seen_at")
        ),
        "teams": [
            {"id": each.team.uid, "name": each.team.name, "role": each.role, "since": each.created_at}
            for each in memberships
        ],
        "api_keys": list(
            person.api_keys.values(
                "uid", "name", "prefix", "scopes", "created_at", "last_used_at", "revoked_at"
            )
        ),
        "changes": [
            {
                "at": each.created_at,
                "team": each.team.uid,
                "verb": each.verb,
                "subject": each.subject_uid,
                "data": each.data,
            }
            for each in changes
        ],
    }
