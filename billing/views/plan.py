"""The team's plan: what it allows and what is left, other plans, top-ups, the spend limit, invoices."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from csp.decorators import csp_update
from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from accounts.roles import Can
from accounts.web import TeamRequest, team_view
from billing import gateway
from billing.entitlements import account_of
from billing.forms import SeatsForm, SpendLimitForm
from billing.selectors import plan_page
from billing.services.purchases import (
    arrived,
    buy_top_up,
    choose_plan,
    open_portal,
    set_seats,
    set_spend_limit,
)
from billing.stripe_rows import PaymentsUnavailable
from core.errors import DomainError

_PAYS_AT = ("https://checkout.stripe.com", "https://billing.stripe.com")

View = Callable[..., HttpResponseBase]


def leads_to_payment(view: View) -> View:
    """Let the forms of a page lead to where is paid: browsers look at where a form's answer sends them, too."""

    @wraps(view)
    def wrapper(request: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:
        places = [*_PAYS_AT, *filter(None, [settings.STRIPE_API_BASE])]
        return csp_update({"form-action": places})(view)(request, *args, **kwargs)

    return wrapper


def only_with_payments(view: View) -> View:
    """Hide a page where no payments are taken."""

    @wraps(view)
    def wrapper(request: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not gateway.is_on():
            raise Http404
        return view(request, *args, **kwargs)

    return wrapper


@leads_to_payment
@team_view(can=Can.USAGE_VIEW)
@require_GET
@only_with_payments
def plan(request: TeamRequest) -> HttpResponse:
    """Show plan and balance; `?part=invoices` answers with the invoices alone, which Stripe is asked for."""
    actor = request.actor
    if request.GET.get("part") == "invoices":
        return render(request, "billing/plan.html#invoices", _invoices(request))
    if request.GET.get("paid") and actor.can(Can.BILLING):
        try:
            arrived(actor=actor)
            messages.success(request, _("Thank you. It is yours now."))
        except PaymentsUnavailable:
            messages.info(request, _("Thank you. It shows here as soon as the payment is confirmed."))
        return _back(request)
    return _page(request)


@team_view(can=Can.BILLING)
@require_POST
@only_with_payments
def plan_choose(request: TeamRequest) -> HttpResponse:
    """Move to another plan: to Stripe's page for the first one, at once or at the end of the month else."""
    return _go(
        request,
        lambda once: choose_plan(actor=request.actor, key=request.POST.get("plan", ""), once=once),
        _("The plan is changed."),
    )


@team_view(can=Can.BILLING)
@require_POST
@only_with_payments
def top_up(request: TeamRequest) -> HttpResponse:
    """Lead to Stripe's page where GPU time is bought."""
    return _go(
        request, lambda once: buy_top_up(actor=request.actor, key=request.POST.get("top_up", ""), once=once)
    )


@team_view(can=Can.BILLING)
@require_POST
@only_with_payments
def portal(request: TeamRequest) -> HttpResponse:
    """Lead to Stripe's page for cards, tax ids and invoices."""
    return _go(request, lambda once: open_portal(actor=request.actor))


@leads_to_payment
@team_view(can=Can.BILLING)
@require_POST
@only_with_payments
def spend_limit(request: TeamRequest) -> HttpResponse:
    """Set what may be invoiced a month beyond allowance and top-ups."""
    form = SpendLimitForm(request.POST)
    if not form.is_valid():
        return _page(request, limit_form=form)
    set_spend_limit(actor=request.actor, cents=form.cents)
    messages.success(request, _("Saved. It holds at once."))
    return _back(request)


@leads_to_payment
@team_view(can=Can.BILLING)
@require_POST
@only_with_payments
def seats(request: TeamRequest) -> HttpResponse:
    """Have another number of seats beyond the plan's."""
    form = SeatsForm(request.POST)
    if not form.is_valid():
        return _page(request, seats_form=form)

    def buy(once: str) -> str:
        set_seats(actor=request.actor, seats=form.cleaned_data["seats"], once=once)
        return ""

    return _go(request, buy, _("Saved. It holds at once."))


def _page(
    request: TeamRequest, limit_form: SpendLimitForm | None = None, seats_form: SeatsForm | None = None
) -> HttpResponse:
    """Show the page; a form that is given was refused."""
    page = plan_page(request.actor)
    context = {
        "page": page,
        "limit_form": limit_form or SpendLimitForm(initial={"amount": page.limit_amount}),
        "seats_form": seats_form or SeatsForm(initial={"seats": page.account.extra_seats}),
    }
    return render(request, "billing/plan.html", context, status=422 if limit_form or seats_form else 200)


def _invoices(request: TeamRequest) -> dict[str, Any]:
    account = account_of(request.actor.team)
    customer = account.stripe_customer if account is not None else ""
    try:
        return {"invoices": gateway.invoices_of(customer) if customer else []}
    except PaymentsUnavailable as error:
        return {"failed": error.message}


def _go(request: TeamRequest, buy: Callable[[str], str], done: str = "") -> HttpResponse:
    """Carry out a press of a button and lead on; what is refused is said on the plan's page."""
    try:
        address = buy(request.POST.get("once", "")[:80])
    except DomainError as error:
        if error.status == 404:
            raise
        messages.error(request, error.message)
        return _back(request)
    if address:
        return HttpResponseRedirect(address, status=303)
    messages.success(request, done)
    return _back(request)


def _back(request: TeamRequest) -> HttpResponseRedirect:
    return HttpResponseRedirect(reverse("billing:plan", args=[request.actor.team.slug]), status=303)
