"""Read webhooks and their log for a team, and the list of a person."""

from __future__ import annotations

from django.db.models import Count, QuerySet, Subquery

from accounts.access import open_team_uids
from accounts.actor import Actor, require
from accounts.models import User
from accounts.roles import Can
from core.errors import NotFound
from notifications.kinds import USUAL, Kind, MailWhen
from notifications.models import Delivery, Inbox, Notification, NotificationChoice, WebhookEndpoint


def webhook_endpoints(actor: Actor) -> QuerySet[WebhookEndpoint]:
    """Return the endpoints of the actor's team, the newest first."""
    require(actor, Can.WEBHOOKS)
    return WebhookEndpoint.objects.for_team(actor.team).select_related("created_by").order_by("-uid")


def webhook_endpoint(actor: Actor, uid: str) -> WebhookEndpoint:
    """Return one endpoint; raise NotFound."""
    found: WebhookEndpoint | None = webhook_endpoints(actor).filter(uid=uid).first()
    if found is None:
        raise NotFound
    return found


def deliveries(actor: Actor, endpoint: WebhookEndpoint | None = None) -> QuerySet[Delivery]:
    """Return the deliveries of the actor's team, or of one endpoint, the newest first."""
    require(actor, Can.WEBHOOKS)
    rows = (
        Delivery.objects.for_team(actor.team).select_related("event", "endpoint__created_by").order_by("-uid")
    )
    return rows.filter(endpoint=endpoint) if endpoint else rows


def delivery(actor: Actor, uid: str) -> Delivery:
    """Return one delivery with every try; raise NotFound."""
    found: Delivery | None = deliveries(actor).prefetch_related("log").filter(uid=uid).first()
    if found is None:
        raise NotFound
    return found


def notifications_of(person: User) -> QuerySet[Notification]:
    """Return a person's list, the newest first, without teams that are closed to them now."""
    return Notification.objects.filter(user=person, team_uid__in=open_team_uids(person)).order_by("-seq")


def bell_of(person: User) -> tuple[int, int]:
    """Return how many lines are unread and the number of the last one; one query."""
    unread = notifications_of(person).filter(read_at=None).order_by().values("user")
    count = Subquery(unread.annotate(n=Count("pk")).values("n"))
    found = Inbox.objects.filter(user=person).values_list(count, "last_seq").first()
    return (found[0] or 0, found[1]) if found else (0, 0)


def choices_of(person: User) -> dict[Kind, MailWhen]:
    """Return when the person wants mail about each kind."""
    rows = NotificationChoice.objects.filter(user=person, kind__in=Kind.values)
    chosen = {Kind(row.kind): MailWhen(row.mail) for row in rows}
    return {kind: chosen.get(kind, USUAL[kind]) for kind in Kind}
