"""Tell people what happened: a line in their list, live, and a mail when they want one."""

from __future__ import annotations

from collections.abc import Iterable

from django.db import transaction

from accounts.models import Membership, Team, User
from accounts.roles import ROLE_CAN, Can, Role
from core.outbox import enqueue
from core.realtime.publish import publish
from notifications.events import Subject
from notifications.kinds import MAILED_BY_OTHERS, USUAL, Kind, MailWhen
from notifications.models import Inbox, Notification, NotificationChoice
from notifications.realtime import item_of, topic_of, without_words


def tell(*, team: Team, kind: Kind, people: Iterable[User], subject: Subject, who: str = "") -> None:
    """Put a line into the list of each of `people` who belongs to `team`; call inside the transaction it tells of."""
    ids = {person.pk for person in people}
    if not ids:
        return
    # In one order for everybody, so that two at once wait for each other and never in a circle.
    members = Membership.objects.filter(team=team, user_id__in=ids, user__is_active=True)
    for member in members.select_related("user").order_by("user_id"):
        _add(member.user, team, kind, subject, who)


def mail_choice(person: User, kind: Kind) -> MailWhen:
    """Return when `person` wants mail about `kind`."""
    chosen = NotificationChoice.objects.filter(user=person, kind=kind).values_list("mail", flat=True).first()
    return MailWhen(chosen) if chosen else USUAL[kind]


def managers_of(team: Team) -> list[User]:
    """Return the people who may set up the team's webhooks and members: owners and admins."""
    roles = [role for role in Role if {Can.WEBHOOKS, Can.MEMBERS} <= ROLE_CAN[role]]
    return list(User.objects.filter(memberships__team=team, memberships__role__in=roles))


def _add(person: User, team: Team, kind: Kind, subject: Subject, who: str) -> None:
    from notifications.tasks import mail_notification

    with transaction.atomic():
        Inbox.objects.get_or_create(user=person)
        inbox = Inbox.objects.select_for_update(no_key=True).get(user=person)
        inbox.last_seq += 1
        inbox.save(update_fields=["last_seq"])
        row = Notification.objects.create(
            user=person,
            seq=inbox.last_seq,
            kind=kind,
            team_uid=team.uid,
            team_name=team.name,
            subject_uid=subject.uid,
            subject_name=subject.name[:200],
            path=subject.path[:200],
            who=who[:100],
            mail=mail_choice(person, kind),
        )
        if row.mail == MailWhen.AT_ONCE and kind not in MAILED_BY_OTHERS:
            enqueue(mail_notification, row.uid)
        item = item_of(row, person.language)
        if team.require_two_factor and not person.has_second_factor:
            item = without_words(item)
        transaction.on_commit(lambda: publish(topic_of(person), [item]), robust=True)
