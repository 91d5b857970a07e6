"""What people do with money: choose a plan, buy GPU time, cancel, set a limit. Stripe takes it from there."""

from __future__ import annotations

from dataclasses import replace

from django.conf import settings
from django.db import transaction
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from accounts.actor import Actor, require
from accounts.meters import seats_taken
from accounts.models import Team
from accounts.roles import Can
from accounts.services.audit import audit
from billing import gateway
from billing.models import BillingAccount, LimitAlert, Plan, TopUp
from billing.services.subscriptions import (
    GOOD,
    account_for,
    further_seats,
    lines_for,
    refresh,
    seat_key,
    top_up_key,
)
from billing.stripe_rows import CardDeclined, Lines, PaymentsUnavailable, Subscription
from core.errors import Conflict, DomainError, NotFound

UNFINISHED = frozenset({"unpaid", "incomplete", "paused"})
HIGHEST_LIMIT_CENTS = 10_000_000
MOST_SEATS = 1_000


def choose_plan(*, actor: Actor, key: str, once: str) -> str:
    """Move the actor's team to a plan and return the address to send the person to, "" if it is done.

    The first plan is paid on Stripe's page. A larger one begins at once, a smaller one when the paid month has ended,
    and the free one is a cancellation. `once` names the press of the button. Raise NotFound, Conflict
    (`plan_chosen`), PaymentsUnavailable.
    """
    require(actor, Can.BILLING)
    _require_on()
    plan = Plan.objects.filter(key=key, is_on_sale=True, price_cents__isnull=False).first()
    if plan is None:
        raise NotFound
    account = account_for(actor.team)
    current = _current(account)
    if not plan.price_cents:
        if current is None:
            raise Conflict("plan_chosen", _("The team is on this plan already."))
        return _cancel(actor, account, current, once)
    if current is None:
        return _first(actor, account, plan, once)
    planned: Plan | None = None
    if account.plan == plan:
        if not account.next_plan_id and not account.ends_at_period_end:
            raise Conflict("plan_chosen", _("The team is on this plan already."))
        gateway.keep(current, once=once)
    elif (account.plan.price_cents or 0) < plan.price_cents:
        _upgrade(account, current, plan, once)
    elif account.next_plan == plan and current.schedule:
        return ""  # the same button, pressed twice
    else:
        gateway.downgrade(current, lines=_lines(actor.team, plan), once=once)
        planned = plan
    _note(actor, account, "plan.chosen", before=account.plan.key, after=plan.key)
    with transaction.atomic():
        Team.objects.select_for_update(no_key=True).get(pk=actor.team.pk)
        BillingAccount.objects.for_team(actor.team).update(next_plan=planned)
    _refreshed(account)
    return ""


def buy_top_up(*, actor: Actor, key: str, once: str) -> str:
    """Return the address of the page where a top-up is paid; raise NotFound."""
    require(actor, Can.BILLING)
    _require_on()
    top_up = TopUp.objects.filter(key=key, is_on_sale=True).first()
    if top_up is None:
        raise NotFound
    account = account_for(actor.team)
    notes = {"kind": "top_up", "team": actor.team.uid, "top_up": top_up.key, "seconds": str(top_up.seconds)}
    return gateway.open_checkout(
        customer=_customer(actor, account),
        lines={top_up_key(top_up): 1},
        back=_back(actor.team),
        subscribe=False,
        notes=notes,
        once=f"{actor.team.uid}:{top_up.key}:{once}",
    )


def set_seats(*, actor: Actor, seats: int, once: str) -> None:
    """Have `seats` beyond those of the team's plan, paid for each; more are invoiced at once, fewer set off.

    Raise Conflict (`seats_not_sold`, `plan_changes`, `seats_in_use`), CardDeclined, PaymentsUnavailable.
    """
    require(actor, Can.BILLING)
    _require_on()
    if not 0 <= seats <= MOST_SEATS:
        raise DomainError("seats_invalid", _("Give a number from 0 to 1000."), pointer="/seats")
    account = account_for(actor.team)
    current = _current(account)
    further = seat_key(account.plan)
    if current is None or further is None:
        raise Conflict("seats_not_sold", _("This plan has no further seats. A larger one has more."))
    if account.next_plan_id:
        raise Conflict("plan_changes", _("A smaller plan begins soon. Keep this plan first, then buy seats."))
    left = (account.plan.seats or 0) + seats - seats_taken(actor.team)
    if left < 0:
        raise Conflict(
            "seats_in_use",
            ngettext(
                "%(n)s more seat is taken or promised than that. Remove a member or an invitation first.",
                "%(n)s more seats are taken or promised than that. Remove members or invitations first.",
                -left,
            )
            % {"n": -left},
        )
    if seats == current.seats:
        return
    gateway.set_seats(current, seat_key=further, seats=seats, once=once)
    _note(actor, account, "seats.changed", before=current.seats, after=seats)
    _refreshed(account)


def open_portal(*, actor: Actor) -> str:
    """Return the address of Stripe's page for cards, tax ids and invoices."""
    require(actor, Can.BILLING)
    _require_on()
    return gateway.open_portal(customer=_customer(actor, account_for(actor.team)), back=_back(actor.team))


def set_spend_limit(*, actor: Actor, cents: int) -> None:
    """Let so much a month be invoiced beyond allowance and top-ups; running trainings notice within seconds."""
    require(actor, Can.BILLING)
    if not 0 <= cents <= HIGHEST_LIMIT_CENTS:
        raise DomainError("limit_invalid", _("Give an amount from 0 to 100 000."), pointer="/cents")
    with transaction.atomic():
        Team.objects.select_for_update(no_key=True).get(pk=actor.team.pk)
        account = account_for(actor.team)
        if account.spend_limit_cents == cents:
            return
        _note(actor, account, "spend_limit.changed", before=account.spend_limit_cents, after=cents)
        BillingAccount.objects.for_team(actor.team).update(spend_limit_cents=cents)
        # A new limit has alerts of its own.
        LimitAlert.objects.for_team(actor.team).filter(what="spend_limit").delete()


def arrived(*, actor: Actor) -> None:
    """Ask Stripe at once when somebody comes back from its page: its message may be late."""
    require(actor, Can.BILLING)
    if gateway.is_on():
        refresh(account_for(actor.team))


def _first(actor: Actor, account: BillingAccount, plan: Plan, once: str) -> str:
    customer = _customer(actor, account)
    for left in gateway.subscriptions_of(customer):
        if left.status in UNFINISHED:
            gateway.end_now(left, forgive=True)  # or its old invoice, once paid, would bring it back
    gateway.close_checkouts(customer, but=once)
    trial = plan.trial_days if not account.subscription else 0
    return gateway.open_checkout(
        customer=customer,
        lines=_lines(actor.team, plan),
        back=_back(actor.team),
        subscribe=True,
        notes={"kind": "plan", "team": actor.team.uid, "plan": plan.key, "once": once},
        trial_days=trial,
        once=f"{actor.team.uid}:{plan.key}:{once}",
    )


def _upgrade(account: BillingAccount, current: Subscription, plan: Plan, once: str) -> None:
    """Move to a larger plan at once; where the card is declined, a smaller plan that was to begin still does."""
    try:
        gateway.upgrade(current, lines=_lines(account.team, plan), once=once)
    except CardDeclined:
        if account.next_plan is not None and current.schedule:
            lines = _lines(account.team, account.next_plan)
            gateway.downgrade(replace(current, schedule=""), lines=lines, once=f"{once}-again")
        raise


def _cancel(actor: Actor, account: BillingAccount, current: Subscription, once: str) -> str:
    gateway.cancel(current, once=once)
    _note(actor, account, "plan.canceled", before=account.plan.key)
    _refreshed(account)
    return ""


def _refreshed(account: BillingAccount) -> Subscription | None:
    """Ask at once how things stand; where Stripe is away now, its message tells it later."""
    try:
        return refresh(account)
    except PaymentsUnavailable:
        return None


def _lines(team: Team, plan: Plan) -> Lines:
    """Return what is bought with a plan: itself, and as many further seats as the team's members need."""
    return lines_for(plan, further_seats(plan, seats_taken(team)))


def _current(account: BillingAccount) -> Subscription | None:
    if not account.stripe_customer:
        return None
    found = gateway.subscriptions_of(account.stripe_customer)
    return next((each for each in found if each.status in GOOD), None)


def _customer(actor: Actor, account: BillingAccount) -> str:
    """Return the team's customer at Stripe, made the first time; two at once get the same one."""
    if not account.stripe_customer:
        made = gateway.make_customer(team_uid=actor.team.uid, name=actor.team.name, email=actor.user.email)
        BillingAccount.objects.for_team(actor.team).filter(stripe_customer="").update(stripe_customer=made)
        account.refresh_from_db()
    return account.stripe_customer


def _note(actor: Actor, account: BillingAccount, verb: str, **data: object) -> None:
    audit(actor, verb, actor.team, **data)


def _back(team: Team) -> str:
    return f"{settings.SITE_URL}{reverse('billing:plan', args=[team.slug])}"


def _require_on() -> None:
    if not gateway.is_on():
        raise NotFound
