"""Keep a team's account equal to what Stripe says, whatever came first, twice or not at all.

The truth is asked for, never taken from a message: an event only says that it is time to ask.
"""

from __future__ import annotations

import logging
import math
from datetime import timedelta

from django.db import transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import Team
from billing import gateway
from billing.models import BillingAccount, Plan, TopUp
from billing.plans import default_plan
from billing.services.ledger import add_bought, raise_allowance
from billing.services.tell import tell_plan_changed, tell_plan_ended
from billing.stripe_rows import PLAN_PRODUCT, Lines, Payment, PaymentsUnavailable, Subscription

log = logging.getLogger(__name__)

# These are on their plan. A team that is past due keeps it while Stripe tries again.
GOOD = frozenset({"trialing", "active", "past_due"})
# What a team has stays readable and nothing of it is forgotten for so long after its plan ended.
KEPT_AFTER_PLAN = timedelta(days=30)
_ASKS_AGAIN = 3


def price_key(plan: Plan) -> str:
    """Return the lookup key of a plan's monthly price at Stripe."""
    return f"plan_{plan.key}_monthly"


def overage_key(plan: Plan) -> str | None:
    """Return the lookup key of the price of a further GPU second, None for a plan without."""
    return f"plan_{plan.key}_overage" if plan.overage_cents_an_hour else None


def seat_key(plan: Plan) -> str | None:
    """Return the lookup key of the price of a further seat, None for a plan that sells none."""
    return f"plan_{plan.key}_seat" if plan.seat_cents and plan.seats is not None else None


def further_seats(plan: Plan, taken: int) -> int:
    """Return how many seats beyond those of `plan` are bought with it where `taken` are needed."""
    return max(0, taken - plan.seats) if plan.seats is not None and plan.seat_cents else 0


def lines_for(plan: Plan, seats: int) -> Lines:
    """Return what a subscription to `plan` with `seats` beyond its own is made of."""
    lines: dict[str, int | None] = {price_key(plan): 1}
    if overage := overage_key(plan):
        lines[overage] = None
    if seats and (further := seat_key(plan)):
        lines[further] = seats
    return lines


def top_up_key(top_up: TopUp) -> str:
    """Return the lookup key of a top-up's price."""
    return f"topup_{top_up.key}"


def account_for(team: Team) -> BillingAccount:
    """Return the account of a team, made on the default plan if it has none."""
    account: BillingAccount
    account, _made = BillingAccount.objects.for_team(team).get_or_create(
        defaults={"team": team, "plan": default_plan()}
    )
    return account


def refresh(account: BillingAccount) -> Subscription | None:
    """Ask Stripe for the account's subscription and payments, make the account what they say, return the former.

    A team has one subscription: an older one that is still alive (two pages of Stripe's were paid) is ended. No lock
    is held while Stripe is asked: where another answer was written meanwhile, it is asked again.
    """
    if not account.stripe_customer:
        return None
    for _time in range(_ASKS_AGAIN):
        rows = BillingAccount.objects.for_team(account.team)
        seen = rows.values_list("refreshes", flat=True).get()
        current, payments = _ask(account)
        with transaction.atomic():
            Team.objects.select_for_update(no_key=True).get(pk=account.team_id)
            account.refresh_from_db()
            if account.refreshes != seen:
                continue
            rows.update(refreshes=F("refreshes") + 1)
            account.refreshes += 1
            _apply(account, current)
            for payment in payments:
                _book(account.team, payment)
            return current
    raise PaymentsUnavailable(
        "payments_unavailable", _("This plan is being changed elsewhere. Look again in a minute.")
    )


def _ask(account: BillingAccount) -> tuple[Subscription | None, list[Payment]]:
    found = gateway.subscriptions_of(account.stripe_customer)
    for older in [each for each in found if each.status in GOOD][1:]:
        log.warning("%s had two subscriptions; %s ends", account.team, older.id)
        gateway.end_now(older, give_back=True)
    payments = [each for each in gateway.payments_of(account.stripe_customer) if each.is_paid]
    return next((each for each in found if each.status in GOOD), found[0] if found else None), payments


def _apply(account: BillingAccount, found: Subscription | None) -> None:
    before = account.plan
    # A new subscription pays for a whole month, an upgrade for what is left of it.
    share = 1.0 if found is None or found.id != account.subscription else _share_left(found)
    is_good = found is not None and found.status in GOOD
    if found is not None and is_good:
        plan = _plan_of(found, before)
    elif account.status in GOOD:
        plan = default_plan()
    else:
        plan = before  # it was over already, or never began: an operator may have put the team on a plan
    if found is not None:
        account.subscription = found.id
        account.status = found.status
        account.period_end = found.period_end if is_good else None
        account.trial_end = found.trial_end
        account.ends_at_period_end = found.ends_at_period_end and is_good
        account.extra_seats = found.seats if is_good else 0
        if not found.schedule or plan != before:
            account.next_plan = None
        if found.status == "past_due":
            account.past_due_since = account.past_due_since or timezone.now()
        else:
            account.past_due_since = account.past_due_reminded_at = None
    elif not account.subscription:
        return  # never subscribed
    has_ended = not is_good and before.position > plan.position
    if has_ended:
        account.data_kept_until = timezone.now() + KEPT_AFTER_PLAN
    account.plan = plan
    account.save()
    if plan != before:
        raise_allowance(account.team, before=before, share=share)
        if has_ended:
            tell_plan_ended(account, before)
        else:
            tell_plan_changed(account)
        log.info("%s is on %s now, was on %s", account.team.uid, plan.key, before.key)


def _share_left(found: Subscription) -> float:
    """Return the part of the paid month that is left, a begun day counting whole."""
    if found.period_start is None or found.period_end is None:
        return 1.0
    day = timedelta(days=1)
    whole = math.ceil((found.period_end - found.period_start) / day)
    return min(1.0, max(1, math.ceil((found.period_end - timezone.now()) / day)) / whole)


def _plan_of(found: Subscription, before: Plan) -> Plan:
    """Return the plan behind a subscription's product; an unknown product changes nothing."""
    plan = Plan.objects.filter(key=found.product.removeprefix(PLAN_PRODUCT)).first()
    if plan is None:
        log.error("subscription %s has product %r, which is of no plan", found.id, found.product)
    return plan or before


def _book(team: Team, payment: Payment) -> None:
    """Put a paid top-up into the ledger; once, by the id of its checkout."""
    seconds = payment.notes.get("seconds", "")
    if payment.notes.get("kind") == "top_up" and seconds.isdigit():
        add_bought(
            team, seconds=int(seconds), key=f"checkout:{payment.id}", reason=payment.notes.get("top_up", "")
        )
