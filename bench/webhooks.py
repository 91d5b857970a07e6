"""Send 10 000 webhooks through the whole platform and count: lost, unsigned, twice; messages a second.

Starts `manage.py up` with its own PostgreSQL, Valkey, worker and clock, and a receiver that verifies every message
with the public `standardwebhooks` package. One message in fifty is refused at its first try and comes again five
seconds later.

    python -m bench.webhooks            10 000 messages
    python -m bench.webhooks 1000
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "platform")]

from tests.installation import Installation  # noqa: E402
from tests.notifications.receivers import Received, Receiver, Reply  # noqa: E402

MESSAGES = 10_000
AT_ONCE = 200  # events in one transaction
REFUSED_ONE_IN = 50
QUIET = 60.0  # so many seconds without a message, and the rest counts as lost


class Webhooks(Installation):
    """An installation that may write to receivers on this machine."""

    settings: Mapping[str, str] = {
        "LF_WEBHOOKS_ALLOW_PRIVATE": "true",
        "LF_WEBHOOKS_ALLOW_HTTP": "true",
        "LF_LOG_LEVEL": "WARNING",
    }


def refuse_some(refused: set[str]) -> Receiver:
    """Return a receiver that answers 503 to some messages the first time it sees them."""
    seen: set[str] = set()

    def decide(request: Received, number: int) -> Reply:
        uid = request.headers["webhook-id"]
        first = uid not in seen
        seen.add(uid)
        if first and len(seen) % REFUSED_ONE_IN == 0:
            refused.add(uid)
            return Reply(503)
        return Reply()

    return Receiver(decide=decide)


def measure(count: int) -> int:
    """Emit `count` events, wait until all have arrived, print what was counted; return 1 if one is missing."""
    import django

    django.setup()
    from django.db import transaction

    from accounts.models import User
    from accounts.services.teams import create_team
    from notifications.events import EventType, Subject
    from notifications.models import DeliveryAttempt, WebhookEvent
    from notifications.services.webhooks import create_endpoint, emit

    refused: set[str] = set()
    receiver = refuse_some(refused)
    actor = create_team(owner=User.objects.create_user("bench@example.org"), name="Bench")
    receiver.secret = create_endpoint(actor=actor, url=receiver.url).text
    began = time.monotonic()
    for start in range(0, count, AT_ONCE):
        with transaction.atomic():
            for number in range(start, min(start + AT_ONCE, count)):
                subject = Subject(f"trn_{number}", "training", f"No. {number}", f"/t/{actor.team.slug}/")
                emit(actor.team, EventType.TRAINING_SUCCEEDED, subject)
    written = time.monotonic() - began
    last_news, arrived = time.monotonic(), 0
    while len(receiver.by_id) < count and time.monotonic() - last_news < QUIET:
        time.sleep(0.2)
        if len(receiver.by_id) != arrived:
            last_news, arrived = time.monotonic(), len(receiver.by_id)
    seconds = time.monotonic() - began
    wanted = set(WebhookEvent.objects.for_team(actor.team).values_list("uid", flat=True))
    lost = wanted - set(receiver.by_id)
    twice = sum(times > 1 for times in receiver.by_id.values())
    attempts = DeliveryAttempt.objects.for_team(actor.team).count()
    receiver.close()
    print(f"{len(wanted)} messages in {seconds:.1f} s: {len(wanted) / seconds:.0f} a second")
    print(f"written in {written:.1f} s, {len(receiver.requests)} requests, {attempts} tries in the log")
    print(
        f"lost {len(lost)}, unsigned {len(receiver.unsigned)}, accepted twice {twice}, refused first {len(refused)}"
    )
    return int(len(wanted) != count or bool(lost) or bool(receiver.unsigned))


def main() -> int:
    """Start everything, measure, stop everything."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else MESSAGES
    platform = Webhooks()
    os.environ.update(
        LF_VAR_DIR=str(platform.var), DJANGO_SETTINGS_MODULE="config.settings", **Webhooks.settings
    )
    try:
        platform.wait_until_ready()
        return measure(count)
    finally:
        platform.stop()


if __name__ == "__main__":
    raise SystemExit(main())
