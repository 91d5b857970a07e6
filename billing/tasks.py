"""Short jobs of the billing app, sent through the outbox."""

from __future__ import annotations

from django.conf import settings
from django.urls import reverse

from billing import gateway
from billing.entitlements import grace_end
from billing.models import Account, BillingAccount, LedgerEntry, StripeEvent
from billing.plans import default_plan
from billing.services.subscriptions import account_for
from billing.services.tell import payers_of
from billing.webhooks import act_on
from core.outbox import short_job
from notifications.kinds import Kind, MailWhen
from notifications.services.mail import write_to
from notifications.services.notify import mail_choice


@short_job(queue_name="default", most_failures=10)
def act_on_stripe_event(event_uid: str) -> None:
    """Act upon what Stripe told; a failure is tried again, and kept for the operator after the last."""
    row = StripeEvent.objects.filter(uid=event_uid).first()
    if row is not None and not act_on(row):
        raise RuntimeError(f"{row} failed: see the inbox")


# Some 23 hours at ten minutes each: Stripe knows the identifier of what was reported already for a day, no longer.
@short_job(queue_name="default", most_failures=140)
def report_overage(transaction_uid: str) -> None:
    """Report the invoiced part of a settlement to Stripe's meter; the transaction's id counts once there."""
    entry = (
        LedgerEntry.unscoped.select_related("team")
        .filter(transaction__uid=transaction_uid, account=Account.HELD_OVERAGE)
        .first()
    )
    if entry is None or not gateway.is_on():
        return
    customer = account_for(entry.team).stripe_customer
    if customer:
        gateway.report_usage(customer=customer, seconds=-entry.seconds, identifier=transaction_uid)


@short_job(queue_name="mail", most_failures=8)
def mail_past_due(team_uid: str) -> None:
    """Write to who pays that a payment failed, until when it can be made good, and what happens then."""
    account = _account(team_uid)
    until = grace_end(account) if account is not None else None
    if account is not None and until is not None:
        is_last = account.past_due_reminded_at is not None
        _write(account, "payment_failed", until=until, after=default_plan(), is_last=is_last)


@short_job(queue_name="mail", most_failures=8)
def mail_plan_ended(team_uid: str) -> None:
    """Write to who pays that the plan has ended and how long everything is kept."""
    account = _account(team_uid)
    if account is not None and account.data_kept_until is not None:
        _write(account, "plan_ended", until=account.data_kept_until)


def _account(team_uid: str) -> BillingAccount | None:
    """Return the account of a team that is still there."""
    rows = BillingAccount.unscoped.select_related("team", "plan")
    return rows.filter(team__uid=team_uid, team__deleted_at=None).first()


def _write(account: BillingAccount, template: str, **context: object) -> None:
    team = account.team
    url = f"{settings.SITE_URL}{reverse('billing:plan', args=[team.slug])}"
    for person in payers_of(team):
        if mail_choice(person, Kind.PLAN_AT_RISK) == MailWhen.AT_ONCE:
            write_to(person, template, {"team": team, "plan": account.plan, "url": url, **context})
