"""Invite people by e-mail, and let them in.

The link is signed and names the invitation; whoever opens it has read the mail of that address.
"""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.core import signing
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.actor import Actor, may_hand_out, member_actor, require
from accounts.listeners import tell_member_change
from accounts.models import Invitation, Membership, Team, User
from accounts.roles import Can, Role, may_grant
from accounts.services.audit import audit
from core.errors import Conflict, DomainError, NotFound, PermissionDenied
from core.outbox import enqueue
from core.quotas import demand

VALID_FOR = timedelta(days=14)
MOST_OPEN = 200
_SALT = "accounts.invitation"


def invite(*, actor: Actor, email: str, role: Role) -> Invitation:
    """Invite `email` as `role` and write to it; an open invitation of that address is renewed instead.

    Raise DomainError for a wrong address, Conflict for a member, PermissionDenied for a role above the actor's,
    QuotaExceeded (`seats`, `open_invitations`).
    """
    require(actor, Can.MEMBERS)
    _require_rank(actor, role)
    email = email.strip().lower()
    try:
        validate_email(email)
    except ValidationError:
        raise DomainError("email_invalid", _("This is not an e-mail address."), pointer="/email") from None
    if Membership.objects.filter(team=actor.team, user__email=email).exists():
        raise Conflict("already_member", _("This person is in the team already."))
    with transaction.atomic():
        # One at a time: two at once cannot both take the last seat.
        Team.objects.select_for_update(no_key=True).get(pk=actor.team.pk)
        if not _is_promised(actor.team, email):
            demand(actor.team, "open_invitations")
            demand(actor.team, "seats")
        invitation = _renewed(actor, email, role) or _made(actor, email, role)
        audit(actor, "invitation.sent", invitation, email=email, after=role.value)
        _write(invitation)
    return invitation


def open_count(team: Team) -> int:
    """Return how many invitations were neither accepted nor revoked nor have expired."""
    rows = Invitation.objects.for_team(team).filter(accepted_at=None, revoked_at=None)
    return rows.filter(expires_at__gt=timezone.now()).count()


def _is_promised(team: Team, email: str) -> bool:
    """Tell whether an open invitation holds a seat for `email` already; one that expired holds none."""
    rows = Invitation.objects.for_team(team).filter(email=email, accepted_at=None, revoked_at=None)
    return rows.filter(expires_at__gt=timezone.now()).exists()


def _made(actor: Actor, email: str, role: Role) -> Invitation:
    made: Invitation = Invitation.objects.create(
        team=actor.team,
        email=email,
        role=role,
        invited_by=actor.user,
        expires_at=timezone.now() + VALID_FOR,
    )
    return made


def _renewed(actor: Actor, email: str, role: Role) -> Invitation | None:
    rows = Invitation.objects.for_team(actor.team).filter(email=email, accepted_at=None, revoked_at=None)
    found: Invitation | None = rows.first()
    if found is not None:
        _require_rank(actor, Role(found.role))
        rows.update(role=role, invited_by=actor.user, expires_at=timezone.now() + VALID_FOR)
        found.refresh_from_db()
    return found


def _require_rank(actor: Actor, role: Role) -> None:
    if not may_hand_out(actor, role):
        raise PermissionDenied(_("You can invite up to your own role."), permission=Can.MEMBERS.value)


def _write(invitation: Invitation) -> None:
    from accounts.tasks import mail_invitation

    enqueue(mail_invitation, invitation.uid)


def revoke_invitation(*, actor: Actor, uid: str) -> None:
    """Make the link of an open invitation worthless; revoking it again changes nothing."""
    require(actor, Can.MEMBERS)
    with transaction.atomic():
        rows = Invitation.objects.for_team(actor.team).filter(uid=uid)
        invitation = rows.first()
        if invitation is None:
            raise NotFound
        _require_rank(actor, Role(invitation.role))
        if rows.filter(accepted_at=None, revoked_at=None).update(revoked_at=timezone.now()):
            audit(actor, "invitation.revoked", invitation, email=invitation.email, before=invitation.role)


def link_of(invitation: Invitation) -> str:
    """Return the address that the mail carries."""
    token = signing.dumps(invitation.uid, salt=_SALT)
    return f"{settings.SITE_URL}{reverse('accounts:invitation', args=[token])}"


def invitation_of(token: str) -> Invitation | None:
    """Return the invitation behind a link, or None if the link was not made here."""
    try:
        uid = signing.loads(token, salt=_SALT)
    except signing.BadSignature:
        return None
    # The signature is the credential; the team follows from the row.
    found: Invitation | None = (
        Invitation.unscoped.select_related("team", "invited_by")
        .filter(uid=uid, team__deleted_at=None)
        .first()
    )
    return found


def _inviter_still_may(invitation: Invitation) -> bool:
    """Tell whether who invited is still in the team and still stands high enough."""
    inviter = Membership.objects.filter(
        team=invitation.team, user=invitation.invited_by, user__is_active=True
    )
    role = inviter.values_list("role", flat=True).first()
    return role is not None and may_grant(Role(role), Role(invitation.role))


def accept_invitation(*, user: User, invitation: Invitation) -> Actor:
    """Make `user` a member as invited; raise Conflict if the invitation ended, PermissionDenied for another address.

    Who is a member already keeps the role they have.
    """
    if user.email != invitation.email:
        raise PermissionDenied(
            _("This invitation is for %(email)s. Log in with that address.") % {"email": invitation.email},
            permission="invitation",
        )
    with transaction.atomic():
        Team.objects.select_for_update(no_key=True).get(pk=invitation.team.pk)
        rows = Invitation.objects.for_team(invitation.team).select_for_update().filter(pk=invitation.pk)
        row: Invitation = rows.get()
        if not row.is_open or not _inviter_still_may(row):
            raise Conflict("invitation_ended", _("This invitation has ended. Ask for a new one."))
        # Its own seat was promised; a smaller plan may have taken the promise back.
        demand(invitation.team, "seats", adding=0)
        rows.update(accepted_at=timezone.now())
        member, is_new = Membership.objects.get_or_create(
            team=invitation.team, user=user, defaults={"role": row.role}
        )
        actor = member_actor(invitation.team, user, member.role)
        if is_new:
            audit(actor, "member.joined", user, after=row.role)
            tell_member_change(actor, user, is_added=True, role=row.role)
    return actor
