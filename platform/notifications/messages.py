"""The body of a message as each kind of receiver reads it."""

from __future__ import annotations

import json

from django.conf import settings
from django.utils.translation import override

from notifications.events import EventType
from notifications.models import EndpointKind, WebhookEndpoint, WebhookEvent


def body_for(endpoint: WebhookEndpoint, event: WebhookEvent) -> bytes:
    """Return the bytes to send: the event itself, or one sentence with a link for a chat."""
    if endpoint.kind == EndpointKind.STANDARD:
        return event.body.encode()
    with override(endpoint.words_in):
        what = str(EventType(event.type).label)
    address = settings.SITE_URL + event.path if event.path else ""
    if endpoint.kind == EndpointKind.SLACK:
        name = _slack(event.subject_name)
        linked = f"<{address}|{name}>" if address and name else name or address
        return json.dumps({"text": f"{what}: {linked}".rstrip(": ")}, ensure_ascii=False).encode()
    name = _discord(event.subject_name)
    linked = f"[{name}](<{address}>)" if address and name else name or address
    message = {"content": f"{what}: {linked}".rstrip(": "), "allowed_mentions": {"parse": []}}
    return json.dumps(message, ensure_ascii=False).encode()


def _slack(text: str) -> str:
    # https://docs.slack.dev/messaging/formatting-message-text/#escaping; "|" would end the link's address.
    for sign, written in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "¦")):
        text = text.replace(sign, written)
    return text


def _discord(text: str) -> str:
    return "".join(f"\\{sign}" if sign in r"\*_`~|[]()<>#@" else sign for sign in text)
