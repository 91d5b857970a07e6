"""What the clock does for money: ask Stripe every night what lost messages would have told, begin the month."""

from __future__ import annotations

import logging
from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from accounts.services.teams import KEPT_FOR
from billing import gateway
from billing.entitlements import grace_end
from billing.models import BillingAccount, EventState, StripeEvent
from billing.services.subscriptions import GOOD, refresh
from billing.services.tell import tell_grace_ends
from core.periodic import every

log = logging.getLogger(__name__)

EVENTS_KEPT_FOR = timedelta(days=180)
REMINDED_BEFORE = timedelta(days=3)


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


@every(3600)
def look_after_past_due() -> int:
    """Remind who did not pay a few days before the grace ends, and end the plan when it has; return how many ended."""
    if not gateway.is_on():
        return 0
    now, ended = timezone.now(), 0
    rows = BillingAccount.unscoped.filter(status="past_due", past_due_since__isnull=False)
    for account in rows.select_related("team", "plan"):
        until = grace_end(account)
        if until is None or until - REMINDED_BEFORE > now:
            continue
        try:
            if until <= now:
                _end_unpaid(account)
                ended += 1
            else:
                _remind(account)
        except Exception:
            log.exception(
                "%s is past due and could not be looked after; tried again in an hour", account.team
            )
    return ended


def _remind(account: BillingAccount) -> None:
    with transaction.atomic():
        rows = BillingAccount.unscoped.filter(pk=account.pk, past_due_reminded_at=None)
        if rows.update(past_due_reminded_at=timezone.now()):
            tell_grace_ends(account)


def _end_unpaid(account: BillingAccount) -> None:
    """End a plan that was not paid; Stripe is asked first, it may have been paid a moment ago."""
    current = refresh(account)
    if current is not None and current.status == "past_due":
        gateway.end_now(current, forgive=True)
        refresh(account)


@every(3600)
def end_plans_of_deleted_teams() -> int:
    """End what a deleted team pays: with its paid month, and at once on the last day before it is erased."""
    if not gateway.is_on():
        return 0
    ended = 0
    accounts = BillingAccount.unscoped.filter(team__deleted_at__isnull=False, status__in=GOOD)
    for account in accounts.exclude(stripe_customer="").select_related("team", "plan"):
        deleted_at = account.team.deleted_at
        is_last_day = deleted_at is not None and deleted_at < timezone.now() - KEPT_FOR + timedelta(days=1)
        try:
            for each in gateway.subscriptions_of(account.stripe_customer):
                if each.status in GOOD and is_last_day:
                    gateway.end_now(each)
                elif each.status in GOOD and not each.ends_at_period_end:
                    gateway.cancel(each, once="deleted")
            refresh(account)
        except Exception:
            log.exception("the plan of %s could not be ended; tried again in an hour", account.team)
            continue
        ended += 1
    return ended


@every(86_400)
def forget_old_events() -> None:
    """Delete what Stripe told half a year ago, but for what failed."""
    old = StripeEvent.objects.filter(received_at__lt=timezone.now() - EVENTS_KEPT_FOR)
    old.exclude(state=EventState.FAILED).delete()
