"""Carry one delivery a step further: sign, send, write down what came back, decide when to try again."""

from __future__ import annotations

import email.utils
import random
import time
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import override

from notifications.events import EventType, Subject
from notifications.kinds import Kind
from notifications.messages import body_for
from notifications.models import (
    Delivery,
    DeliveryAttempt,
    DeliveryState,
    DisabledWhy,
    WebhookEndpoint,
)
from notifications.models.webhook import ANSWER_KEPT
from notifications.outbound import Answer, NoAnswer, Refused, post
from notifications.services.notify import managers_of, tell
from notifications.signing import signature_headers, unseal

# Standard Webhooks' schedule: after the first try, so long before each further one.
SCHEDULE = tuple(
    timedelta(seconds=seconds)
    for seconds in (5, 300, 1800, *(3600 * hours for hours in (2, 5, 10, 14, 20, 24)))
)
JITTER = 0.1
DISABLE_AFTER = timedelta(days=3)
LONGEST_WAIT = timedelta(hours=24)
# After so many failures in a row one message at a time asks whether the receiver is back, the others wait: a
# receiver that hangs for 15 s must not hold every worker.
BREAKER_FAILURES = 3
_BREAKER_FIRST = timedelta(seconds=5)
_BREAKER_LONGEST = timedelta(minutes=5)
_PROBE = timedelta(seconds=20)
_random = random.SystemRandom()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a try came to. `retry_after` is the receiver's wish; `is_final` says that another try is useless."""

    status_code: int | None = None
    answer: str = ""
    error: str = ""
    duration_ms: int = 0
    retry_after: timedelta | None = None

    @property
    def is_delivered(self) -> bool:
        return self.status_code is not None and 200 <= self.status_code < 300

    @property
    def is_gone(self) -> bool:
        return self.status_code == 410


def try_delivery(delivery: Delivery) -> None:
    """Send a pending delivery once, unless its endpoint is switched off or rests; the caller holds it alone."""
    with override(delivery.endpoint.words_in):
        _try(delivery, delivery.endpoint)


def _try(delivery: Delivery, endpoint: WebhookEndpoint) -> None:
    is_test = delivery.event.type == EventType.TEST
    if not endpoint.enabled and not is_test:
        _give_up(delivery, _("The webhook was switched off."))
        return
    if not is_test and not _may_try(endpoint):
        # Due at once: the clock leaves it alone for as long as its endpoint rests.
        Delivery.objects.for_team(delivery.team).filter(pk=delivery.pk).update(next_try_at=timezone.now())
        return
    record(delivery, send(delivery))


def send(delivery: Delivery) -> Outcome:
    """Sign and send the message now."""
    endpoint, event = delivery.endpoint, delivery.event
    body = body_for(endpoint, event)
    began = time.monotonic()
    try:
        keys = [unseal(endpoint.secret)]
        if endpoint.has_two_secrets:
            keys.append(unseal(endpoint.old_secret))
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"LoRA-Foundry-Webhooks/1.0 (+{settings.SITE_URL})",
            **signature_headers(event.uid, int(time.time()), body, keys),
        }
        answer = post(endpoint.url, body, headers, keep=ANSWER_KEPT)
    except (Refused, NoAnswer, ValueError) as error:
        return Outcome(error=str(error)[:300], duration_ms=_since(began))
    return Outcome(
        status_code=answer.status,
        # PostgreSQL stores no NUL.
        answer=answer.body.decode(errors="replace").replace("\0", "�"),
        error=_words(answer)[:300],
        duration_ms=_since(began),
        retry_after=_wish(answer),
    )


def record(delivery: Delivery, outcome: Outcome) -> None:
    """Write down one try and what follows from it."""
    now = timezone.now()
    with transaction.atomic():
        delivery.attempts += 1
        delivery.tries += 1
        delivery.status_code, delivery.error = outcome.status_code, outcome.error
        wait = _wait(delivery, outcome)
        if outcome.is_delivered:
            delivery.state, delivery.delivered_at, delivery.next_try_at = DeliveryState.DELIVERED, now, None
        elif wait is None:
            delivery.state, delivery.next_try_at = DeliveryState.FAILED, None
        else:
            delivery.next_try_at = now + wait
        delivery.save(
            update_fields=[
                "attempts", "tries", "status_code", "error", "state", "delivered_at", "next_try_at",
            ]
        )  # fmt: skip
        DeliveryAttempt.objects.create(
            team=delivery.team,
            delivery=delivery,
            number=delivery.attempts,
            status_code=outcome.status_code,
            answer=outcome.answer,
            error=outcome.error,
            duration_ms=outcome.duration_ms,
        )
        _note_health(delivery, outcome, now)


def _wait(delivery: Delivery, outcome: Outcome) -> timedelta | None:
    """Return how long to wait before the next try, or None if there is none."""
    if outcome.is_gone or delivery.event.type == EventType.TEST or delivery.tries > len(SCHEDULE):
        return None
    usual = SCHEDULE[delivery.tries - 1] * _random.uniform(1, 1 + JITTER)
    return max(usual, min(outcome.retry_after or timedelta(0), LONGEST_WAIT))


def _note_health(delivery: Delivery, outcome: Outcome, now: datetime) -> None:
    """Keep the endpoint's breaker, and switch it off when it is gone or has failed for three days."""
    rows = WebhookEndpoint.objects.for_team(delivery.team).filter(pk=delivery.endpoint_id)
    if outcome.is_delivered:
        if delivery.endpoint.failures:
            rows.update(failures=0, failing_since=None, resume_at=None)
        return
    rows.update(failures=F("failures") + 1)
    endpoint: WebhookEndpoint = rows.select_for_update().get()
    endpoint.failing_since = endpoint.failing_since or now
    rest = outcome.retry_after or timedelta(0)
    if endpoint.failures >= BREAKER_FAILURES:
        steps = min(endpoint.failures - BREAKER_FAILURES, 10)
        rest = max(rest, min(_BREAKER_FIRST * 2**steps, _BREAKER_LONGEST))
    if rest:
        endpoint.resume_at = now + min(rest, LONGEST_WAIT)
    endpoint.save(update_fields=["failing_since", "resume_at"])
    if outcome.is_gone:
        _disable(endpoint, DisabledWhy.GONE)
    elif now - endpoint.failing_since >= DISABLE_AFTER:
        _disable(endpoint, DisabledWhy.FAILING)


def _may_try(endpoint: WebhookEndpoint) -> bool:
    """Tell whether the endpoint takes messages now; of those that come while it fails, one goes ahead."""
    if endpoint.resume_at is None:
        return True
    now = timezone.now()
    if endpoint.resume_at > now:
        return False
    rows = WebhookEndpoint.objects.for_team(endpoint.team).filter(pk=endpoint.pk)
    return bool(rows.filter(resume_at=endpoint.resume_at).update(resume_at=now + _PROBE))


def _disable(endpoint: WebhookEndpoint, why: DisabledWhy) -> None:
    rows = WebhookEndpoint.objects.for_team(endpoint.team).filter(pk=endpoint.pk, enabled=True)
    if rows.update(enabled=False, disabled_why=why):
        subject = Subject(
            uid=endpoint.uid,
            kind="webhook_endpoint",
            name=endpoint.host,
            path=f"/t/{endpoint.team.slug}/settings/webhooks/{endpoint.uid}/",
        )
        tell(
            team=endpoint.team, kind=Kind.WEBHOOK_DISABLED, people=managers_of(endpoint.team), subject=subject
        )


def _give_up(delivery: Delivery, why: str) -> None:
    rows = Delivery.objects.for_team(delivery.team).filter(pk=delivery.pk)
    rows.update(state=DeliveryState.FAILED, error=why, next_try_at=None)


def _words(answer: Answer) -> str:
    """Say what is wrong with an answer; empty for a good one."""
    if 200 <= answer.status < 300:
        return ""
    if 300 <= answer.status < 400:
        place = answer.headers.get("location", "")[:150]
        return _("Redirects are not followed. Enter the final address: %(place)s") % {"place": place}
    if answer.status == 410:
        return _("The receiver says that it is gone, so the webhook was switched off.")
    return _("The receiver answered with status %(status)s.") % {"status": answer.status}


def _wish(answer: Answer) -> timedelta | None:
    """Return what Retry-After asks for: seconds, or a date."""
    text = answer.headers.get("retry-after", "").strip()
    if not text or 200 <= answer.status < 300:
        return None
    if text.isdecimal():
        return timedelta(seconds=min(int(text[:9]), 10**6))
    try:
        at = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    now = timezone.now()
    if at.tzinfo is None:
        at = at.replace(tzinfo=now.tzinfo)
    return max(timedelta(0), at - now)


def _since(began: float) -> int:
    return round(1000 * (time.monotonic() - began))
