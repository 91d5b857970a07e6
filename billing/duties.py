"""What the clock does for money: ask Stripe every night what lost messages would have told, begin the month."""

from __future__ import annotations

import logging
from datetime import timedelta

from django.utils import timezone

from billing import gateway
from billing.models import BillingAccount, EventState, StripeEvent
from billing.services.subscriptions import refresh
from core.periodic import every

log = logging.getLogger(__name__)

EVENTS_KEPT_FOR = timedelta(days=180)


@every(86_400)
def reconcile() -> int:
    """Make every account what Stripe says; return how many differed."""
    if not gateway.is_on():
        return 0
    mended = 0
    for account in BillingAccount.unscoped.exclude(stripe_customer="").select_related("team", "plan"):
        before = (account.plan_id, account.status, account.subscription)
        try:
            refresh(account)
        except Exception:
            log.exception("%s could not be reconciled; the others go on", account.team)
            continue
        account.refresh_from_db()
        if (account.plan_id, account.status, account.subscription) != before:
            log.warning("%s differed from Stripe and was mended", account.team)
            mended += 1
    return mended


@every(86_400)
def forget_old_events() -> None:
    """Delete what Stripe told half a year ago, but for what failed."""
    old = StripeEvent.objects.filter(received_at__lt=timezone.now() - EVENTS_KEPT_FOR)
    old.exclude(state=EventState.FAILED).delete()
