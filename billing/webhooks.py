"""The inbox for what Stripe tells: verify, store as it came, answer at once, act later."""

from __future__ import annotations

import traceback

from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from billing import gateway
from billing.handlers import handle
from billing.models import EventState, StripeEvent
from billing.stripe_rows import BadSignature
from core.http.decorators import machine_view
from core.outbox import enqueue


@machine_view
@csrf_exempt
@require_POST
def stripe_webhook(request: HttpRequest) -> HttpResponse:
    """Take an event from Stripe; its signature is the credential. A repeat is taken and changes nothing."""
    if not gateway.is_on():
        return HttpResponse(status=404)
    try:
        event = gateway.read_event(request.body, request.headers.get("Stripe-Signature", ""))
    except BadSignature:
        return HttpResponse("signature", status=400, content_type="text/plain")
    from billing.tasks import act_on_stripe_event

    with transaction.atomic():
        row, is_new = StripeEvent.objects.get_or_create(
            uid=str(event["id"])[:64], defaults={"kind": str(event["type"])[:80], "payload": event}
        )
        if is_new:
            enqueue(act_on_stripe_event, row.uid)
    return HttpResponse(status=200)


def act_on(row: StripeEvent) -> bool:
    """Act upon a stored event once; keep the traceback of a failure. Return whether it is over."""
    if row.state in {EventState.DONE, EventState.IGNORED}:
        return True
    try:
        state, error = handle(row), ""
    except Exception:
        state, error = EventState.FAILED, traceback.format_exc()[-8000:]
    StripeEvent.objects.filter(pk=row.pk).update(
        state=state,
        error=error,
        tries=row.tries + 1,
        done_at=None if state == EventState.FAILED else timezone.now(),
    )
    return state != EventState.FAILED
