"""Tell people and programs about plans, payments and limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from django.urls import reverse
from django.utils import translation
from django.utils.translation import gettext as _

from accounts.models import Team, User
from accounts.roles import ROLE_CAN, Can, Role
from billing.models import BillingAccount, Plan
from core.outbox import enqueue
from notifications.events import EventType, Subject
from notifications.kinds import Kind
from notifications.services.notify import tell
from notifications.services.webhooks import emit


def payers_of(team: Team) -> list[User]:
    """Return the people who look after a team's money."""
    roles = [role for role in Role if Can.BILLING in ROLE_CAN[role]]
    return list(User.objects.filter(memberships__team=team, memberships__role__in=roles))


def tell_plan_changed(account: BillingAccount) -> None:
    """Tell who pays that the team is on another plan."""
    _tell_each(
        account.team, Kind.PAYMENT, "plan", lambda: _("the plan is “%(plan)s” now") % {"plan": account.plan}
    )


def tell_payment_failed(account: BillingAccount, invoice: str) -> None:
    """Tell who pays, and the webhooks, that an invoice could not be paid."""
    _tell_each(
        account.team,
        Kind.PLAN_AT_RISK,
        invoice,
        lambda: _("a payment failed; put in another card to keep the plan"),
    )
    _mail("mail_past_due", account)
    emit(account.team, EventType.INVOICE_FAILED, _subject(account.team, invoice, "invoice"))


def tell_grace_ends(account: BillingAccount) -> None:
    """Tell who pays, a few days before, that the plan ends because a payment failed."""
    _tell_each(
        account.team,
        Kind.PLAN_AT_RISK,
        "grace",
        lambda: _("the plan ends soon, because a payment failed; put in another card to keep it"),
    )
    _mail("mail_past_due", account)


def tell_plan_ended(account: BillingAccount, before: Plan) -> None:
    """Tell who pays that a paid plan has ended, and what becomes of what the team has."""
    _tell_each(
        account.team,
        Kind.PLAN_AT_RISK,
        "ended",
        lambda: (
            _("“%(before)s” has ended; the plan is “%(plan)s” now and everything stays for now")
            % {"before": before, "plan": account.plan}
        ),
    )
    _mail("mail_plan_ended", account)


def tell_paid(account: BillingAccount, invoice: str) -> None:
    """Tell the webhooks that an invoice was paid."""
    emit(account.team, EventType.INVOICE_PAID, _subject(account.team, invoice, "invoice"))


def tell_limit(team: Team, what: str, percent: int) -> None:
    """Tell who pays, and the webhooks, that `percent` of an allowance or a spend limit is used."""
    words = {
        "allowance": lambda: _("%(n)s %% of this month's GPU time is used") % {"n": percent},
        "spend_limit": lambda: _("%(n)s %% of the spend limit is reached") % {"n": percent},
    }[what]
    _tell_each(team, Kind.LIMIT_NEAR, f"{what}-{percent}", words)
    kind = EventType.QUOTA_EXCEEDED if percent >= 100 else EventType.QUOTA_WARNING
    emit(team, kind, _subject(team, what, "quota", percent=percent))


def _tell_each(team: Team, kind: Kind, uid: str, words: Callable[[], str]) -> None:
    for person in payers_of(team):
        with translation.override(person.language):
            subject = _subject(team, uid, "billing", name=words())
        tell(team=team, kind=kind, people=[person], subject=subject)


def _mail(job: Literal["mail_past_due", "mail_plan_ended"], account: BillingAccount) -> None:
    from billing import tasks

    enqueue(getattr(tasks, job), account.team.uid)


def _subject(team: Team, uid: str, kind: str, *, name: str = "", **more: str | int) -> Subject:
    path = reverse("billing:plan", args=[team.slug])
    return Subject(uid=uid, kind=kind, name=name or uid, path=path, more=dict(more))
