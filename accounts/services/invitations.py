"""Invite people by e-mail, and let them in.

The link is signed and names the invitation; whoever opens it has read the mail of that address.
"""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.core import signing
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.actor import Actor, member_actor, require
from accounts.listeners import tell_member_change
from accounts.models import Invitation, Membership, User
from accounts.roles import Can, Role, may_grant
from accounts.services.audit import audit
from core.errors import Conflict, DomainError, NotFound, PermissionDenied, QuotaExceeded
from core.outbox import enqueue

VALID_FOR = timedelta(days=14)
MOST_OPEN = 200
_SALT = "accounts.invitation"


def invite(*, actor: Actor, email: str, role: Role) -> Invitation:
    """Invite `email` as `role` and write to it; an open invitation of that address is renewed instead.

    Raise DomainError for a wrong address, Conflict for a member, PermissionDenied for a role above the actor's.
    """
    require(actor, Can.MEMBERS)
    if not may_grant(actor.role, role):
        raise PermissionDenied(_("You can invite up to your own role."), permission=Can.MEMBERS.value)
    email = email.strip().lower()
    try:
        validate_email(email)
    except ValidationError:
        raise DomainError("email_invalid", _("This is not an e-mail address."), pointer="/email") from None
    if Membership.objects.filter(team=actor.team, user__email=email).exists():
        raise Conflict("already_member", _("This person is in the team already."))
    open_ones = Invitation.objects.for_team(actor.team).filter(accepted_at=None, revoked_at=None)
    with transaction.atomic():
        if open_ones.count() >= MOST_OPEN:
            raise QuotaExceeded(
                "too_many_invitations",
                _("%(n)s invitations are open. Revoke some, or wait until they are accepted.")
                % {"n": MOST_OPEN},
                quota="open_invitations",
                limit=MOST_OPEN,
                used=MOST_OPEN,
            )
        invitation = _renewed(actor, email, role) or _made(actor, email, role)
        audit(actor, "invitation.sent", invitation, email=email, after=role.value)
        _write(invitation)
    return invitation


def _made(actor: Actor, email: str, role: Role) -> Invitation:
    try:
        with transaction.atomic():
            made: Invitation = Invitation.objects.create(
                team=actor.team,
                email=email,
                role=role,
                invited_by=actor.user,
                expires_at=timezone.now() + VALID_FOR,
            )
            return made
    except IntegrityError:  # somebody else invited the same address a moment ago
        renewed = _renewed(actor, email, role)
        if renewed is None:
            raise
        return renewed


def _renewed(actor: Actor, email: str, role: Role) -> Invitation | None:
    rows = Invitation.objects.for_team(actor.team).filter(email=email, accepted_at=None, revoked_at=None)
    rows.update(role=role, invited_by=actor.user, expires_at=timezone.now() + VALID_FOR)
    found: Invitation | None = rows.first()
    return found


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
        rows = Invitation.objects.for_team(invitation.team).select_for_update().filter(pk=invitation.pk)
        row: Invitation = rows.get()
        if not row.is_open:
            raise Conflict("invitation_ended", _("This invitation has ended. Ask for a new one."))
        rows.update(accepted_at=timezone.now())
        member, is_new = Membership.objects.get_or_create(
            team=invitation.team, user=user, defaults={"role": row.role}
        )
        actor = member_actor(invitation.team, user, member.role)
        if is_new:
            audit(actor, "member.joined", user, after=row.role)
            tell_member_change(actor, user, is_added=True, role=row.role)
    return actor
