"""Tell who joined a team and who left it; accounts calls this through its registry."""

from __future__ import annotations

from accounts.actor import Actor
from accounts.listeners import MemberChange
from accounts.models import User
from notifications.events import EventType, Subject
from notifications.kinds import Kind
from notifications.models import Inbox, Notification, NotificationChoice
from notifications.services.notify import managers_of, tell
from notifications.services.webhooks import emit


def forget_person(person: User) -> None:
    """Delete the list of a person who deleted their account, and their name from the lists of others."""
    Notification.objects.filter(user=person).delete()
    NotificationChoice.objects.filter(user=person).delete()
    Inbox.objects.filter(user=person).delete()
    Notification.objects.filter(subject_uid=person.uid).update(subject_name="…")


def tell_member_change(actor: Actor, person: User, change: MemberChange) -> None:
    """Emit `member.added` or `member.removed`, and tell owners and admins who joined."""
    subject = Subject(
        uid=person.uid,
        kind="member",
        name=str(person),
        path=f"/t/{actor.team.slug}/settings/members/",
        more={"role": change.role, "by": actor.user.uid},
    )
    emit(actor.team, EventType.MEMBER_ADDED if change.is_added else EventType.MEMBER_REMOVED, subject)
    if change.is_added:
        others = [manager for manager in managers_of(actor.team) if manager.pk != person.pk]
        tell(team=actor.team, kind=Kind.MEMBER_JOINED, people=others, subject=subject)
