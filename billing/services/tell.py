"""Tell people and programs about plans, payments and limits."""

from __future__ import annotations

from collections.abc import Callable

from django.urls import reverse
from django.utils import translation
from django.utils.translation import gettext as _

from accounts.models import Team, User
from accounts.roles import ROLE_CAN, Can, Role
from billing.models import BillingAccount, Plan
from notifications.events import EventType, Subject
from notifications.kinds import Kind
from notifications.services.notify import tell
from notifications.services.webhooks import emit


def payers_of(team: Team) -> list[User]:
    """Return the people who look after a team's money."""
    roles = [role for role in Role if Can.BILLING in ROLE_CAN[role]]
    return list(User.objects.filter(memberships__team=team, memberships__role__in=roles))


def tell_plan_changed(account: BillingAccount, before: Plan) -> None:
    """Tell who pays that the team is on another plan."""
    _tell_each(
        account.team, Kind.PAYMENT, "plan", lambda: _("the plan is “%(plan)s” now") % {"plan": account.plan}
    )


def tell_payment_failed(account: BillingAccount, invoice: str) -> None:
    """Tell who pays, and the webhooks, that an invoice could not be paid."""
    _tell_each(
        account.team,
        Kind.PAYMENT,
        invoice,
        lambda: _("a payment failed; put in another card to keep the plan"),
    )
    emit(account.team, EventType.INVOICE_FAILED, _subject(account.team, invoice, "invoice"))


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


def _subject(team: Team, uid: str, kind: str, *, name: str = "", **more: str | int) -> Subject:
    path = reverse("billing:plan", args=[team.slug])
    return Subject(uid=uid, kind=kind, name=name or uid, path=path, more=dict(more))
