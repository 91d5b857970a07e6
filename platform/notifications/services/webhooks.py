"""Set up webhook endpoints, and tell them what happened.

`emit` is called inside the transaction of what it tells: the event and its deliveries are there together with it, or
not at all.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.actor import Actor, require
from accounts.models import Team
from accounts.roles import Can
from accounts.services.audit import audit
from core.errors import Conflict, DomainError, NotFound, QuotaExceeded
from core.outbox import enqueue
from notifications.events import OFFERED, EventType, Subject
from notifications.models import (
    Delivery,
    DeliveryState,
    DisabledWhy,
    EndpointKind,
    WebhookEndpoint,
    WebhookEvent,
)
from notifications.outbound import Refused, check_url
from notifications.signing import new_secret, seal

MOST_ENDPOINTS = 20
MOST_BYTES = 20_000
TWO_SECRETS_FOR = timedelta(hours=24)
CHANGEABLE = ("url", "kind", "description", "event_types", "enabled")


@dataclass(frozen=True, slots=True)
class NewSecret:
    """An endpoint and its new secret, which is not shown again."""

    endpoint: WebhookEndpoint
    text: str


# -- What happened --------------------------------------------------------------------------------------------


def emit(team: Team, kind: EventType, subject: Subject) -> None:
    """Tell every endpoint of `team` that asked for `kind`; call inside the transaction of what happened."""
    rows = WebhookEndpoint.objects.for_team(team).filter(enabled=True)
    asked = [row for row in rows if not row.event_types or kind.value in row.event_types]
    if asked:
        _send(team, kind, subject, asked)


def _send(
    team: Team, kind: EventType, subject: Subject, endpoints: Iterable[WebhookEndpoint]
) -> list[Delivery]:
    from notifications.tasks import deliver_webhook

    with transaction.atomic():
        event: WebhookEvent = WebhookEvent.objects.create(
            team=team,
            type=kind.value,
            body=body_of(team, kind, subject),
            subject_uid=subject.uid,
            subject_name=subject.name[:200],
            path=subject.path[:200],
        )
        deliveries: list[Delivery] = Delivery.objects.bulk_create(
            Delivery(team=team, event=event, endpoint=endpoint) for endpoint in endpoints
        )
        for delivery in deliveries:
            enqueue(deliver_webhook, delivery.uid)
        return deliveries


def body_of(team: Team, kind: EventType, subject: Subject) -> str:
    """Return the body: type, timestamp, and what the event is about, always under 20 kB."""
    data: dict[str, Any] = {
        "id": subject.uid,
        "object": subject.kind,
        "name": subject.name[:200],
        "team": team.uid,
        "url": settings.SITE_URL + subject.path if subject.path else None,
    }
    at = timezone.now().isoformat().replace("+00:00", "Z")
    whole = {"type": kind.value, "timestamp": at, "data": {**data, **subject.more}}
    text = json.dumps(whole, ensure_ascii=False, separators=(",", ":"))
    if len(text.encode()) >= MOST_BYTES:
        # A training must not fail because of the words about it: who gets the id can ask for the rest.
        text = json.dumps({**whole, "data": data}, ensure_ascii=False, separators=(",", ":"))
    return text


# -- Endpoints ------------------------------------------------------------------------------------------------


def create_endpoint(
    *,
    actor: Actor,
    url: str,
    kind: str = EndpointKind.STANDARD,
    description: str = "",
    event_types: Collection[str] = (),
    enabled: bool = True,
) -> NewSecret:
    """Make an endpoint; raise DomainError (`url_refused`, `event_type_unknown`) or QuotaExceeded."""
    require(actor, Can.WEBHOOKS)
    values = _checked(
        url=url.strip(), kind=kind, description=description.strip(), event_types=event_types, enabled=enabled
    )
    secret = new_secret()
    with transaction.atomic():
        Team.objects.select_for_update(no_key=True).get(pk=actor.team.pk)
        used = WebhookEndpoint.objects.for_team(actor.team).count()
        if used >= MOST_ENDPOINTS:
            raise QuotaExceeded(
                "quota_exceeded",
                _("The team has %(n)s webhooks; no more can be made.") % {"n": used},
                quota="webhook_endpoints",
                limit=MOST_ENDPOINTS,
                used=used,
            )
        endpoint: WebhookEndpoint = WebhookEndpoint.objects.create(
            team=actor.team, secret=seal(secret), created_by=actor.user, **values
        )
        audit(actor, "webhook.created", endpoint, after=_told(values))
    return NewSecret(endpoint, secret)


def change_endpoint(*, actor: Actor, uid: str, **changes: Any) -> WebhookEndpoint:
    """Change address, kind, description, events, or switch it on or off; raise NotFound or DomainError."""
    require(actor, Can.WEBHOOKS)
    values = _checked(**{name: value for name, value in changes.items() if name in CHANGEABLE})
    with transaction.atomic():
        endpoint = _locked(actor, uid)
        values = {name: value for name, value in values.items() if getattr(endpoint, name) != value}
        if not values:
            return endpoint
        before = _told({name: getattr(endpoint, name) for name in values})
        for name, value in values.items():
            setattr(endpoint, name, value)
        if "enabled" in values or "url" in values:
            # A fresh start: what the old address did says nothing about the new one.
            endpoint.failures, endpoint.failing_since, endpoint.resume_at = 0, None, None
        endpoint.save()
        audit(actor, "webhook.changed", endpoint, before=before, after=_told(values))
        return endpoint


def rotate_secret(*, actor: Actor, uid: str) -> NewSecret:
    """Make a new secret; for a day every message is signed with the old one too."""
    require(actor, Can.WEBHOOKS)
    secret = new_secret()
    with transaction.atomic():
        endpoint = _locked(actor, uid)
        endpoint.old_secret, endpoint.secret = endpoint.secret, seal(secret)
        endpoint.old_secret_until = timezone.now() + TWO_SECRETS_FOR
        endpoint.save(update_fields=["secret", "old_secret", "old_secret_until"])
        audit(actor, "webhook.rotated", endpoint)
    return NewSecret(endpoint, secret)


def delete_endpoint(*, actor: Actor, uid: str) -> None:
    """Delete an endpoint and its log."""
    require(actor, Can.WEBHOOKS)
    with transaction.atomic():
        endpoint = _locked(actor, uid)
        audit(actor, "webhook.deleted", endpoint, before=_told({"url": endpoint.url}))
        endpoint.delete()


def send_test(*, actor: Actor, uid: str) -> Delivery:
    """Send one message that says nothing, once, also to an endpoint that is switched off."""
    require(actor, Can.WEBHOOKS)
    with transaction.atomic():
        endpoint = _locked(actor, uid)
        subject = Subject(
            uid=endpoint.uid, kind="webhook_endpoint", name=endpoint.description or endpoint.host
        )
        audit(actor, "webhook.tested", endpoint)
        return _send(actor.team, EventType.TEST, subject, [endpoint])[0]


def replay(*, actor: Actor, uid: str) -> Delivery:
    """Send a delivery again, with the same id and body, from the beginning of the schedule.

    Raise NotFound, or Conflict for an endpoint that is switched off.
    """
    from notifications.tasks import deliver_webhook

    require(actor, Can.WEBHOOKS)
    with transaction.atomic():
        rows = Delivery.objects.for_team(actor.team).filter(uid=uid)
        delivery: Delivery | None = (
            rows.select_for_update(of=("self",)).select_related("endpoint", "event").first()
        )
        if delivery is None:
            raise NotFound
        if not delivery.endpoint.enabled and delivery.event.type != EventType.TEST:
            raise Conflict("endpoint_disabled", _("This webhook is switched off. Switch it on first."))
        if delivery.state == DeliveryState.PENDING and delivery.next_try_at is None:
            return delivery  # it is being sent now
        delivery.state, delivery.tries, delivery.next_try_at = DeliveryState.PENDING, 0, None
        delivery.save(update_fields=["state", "tries", "next_try_at"])
        audit(actor, "webhook.replayed", delivery.endpoint, delivery=delivery.uid)
        enqueue(deliver_webhook, delivery.uid)
        return delivery


def _locked(actor: Actor, uid: str) -> WebhookEndpoint:
    rows = WebhookEndpoint.objects.for_team(actor.team)
    endpoint: WebhookEndpoint | None = rows.select_for_update().filter(uid=uid).first()
    if endpoint is None:
        raise NotFound
    return endpoint


def _checked(**values: Any) -> dict[str, Any]:
    """Return the values as they are stored; raise DomainError for one that cannot be."""
    if "url" in values:
        try:
            check_url(values["url"])
        except Refused as error:
            raise DomainError("url_refused", str(error), pointer="/url") from None
    if "event_types" in values:
        chosen = set(values["event_types"])
        if unknown := sorted(chosen - set(OFFERED)):
            raise DomainError(
                "event_type_unknown",
                _("There is no event %(name)s.") % {"name": unknown[0]},
                pointer="/event_types",
            )
        values["event_types"] = [kind.value for kind in OFFERED if kind in chosen]
    if "enabled" in values:
        values["disabled_why"] = "" if values["enabled"] else DisabledWhy.PERSON
    return values


def _told(values: dict[str, Any]) -> dict[str, Any]:
    """Return what the audit log may show: of an address the host, since the rest may be a secret."""
    told = dict(values)
    if "url" in told:
        told["url"] = WebhookEndpoint(url=told["url"]).host
    return told
