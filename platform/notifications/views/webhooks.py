"""A team's webhooks: where they go, what was sent, and sending it again. A secret is shown once, in the answer."""

from __future__ import annotations

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts.roles import Can
from accounts.web import TeamRequest, team_view
from core.errors import DomainError
from notifications.forms import EndpointForm
from notifications.messages import body_for
from notifications.models import WebhookEndpoint
from notifications.selectors import deliveries, delivery, webhook_endpoint, webhook_endpoints
from notifications.services import webhooks

PAGE = 25


@team_view(can=Can.WEBHOOKS)
@require_GET
def webhook_list(request: TeamRequest) -> HttpResponse:
    """List where the team is told."""
    return render(request, "notifications/webhook_list.html", {"endpoints": webhook_endpoints(request.actor)})


# A redirect would have to store the secret somewhere to show it: the answer to the POST is the only copy.
@team_view(can=Can.WEBHOOKS)
@require_http_methods(["GET", "POST"])
@never_cache
def webhook_create(request: TeamRequest) -> HttpResponse:
    """Ask for an address, make a webhook and show its secret once."""
    form = EndpointForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            made = webhooks.create_endpoint(actor=request.actor, **form.cleaned_data)
        except DomainError as error:
            form.add_error("url" if error.code == "url_refused" else None, error.message)
        else:
            return _page(request, made.endpoint, secret=made.text, status=201)
    return _form(request, form)


@team_view(can=Can.WEBHOOKS)
@require_GET
def webhook(request: TeamRequest, uid: str) -> HttpResponse:
    """Show a webhook and its log."""
    return _page(request, webhook_endpoint(request.actor, uid))


@team_view(can=Can.WEBHOOKS)
@require_http_methods(["GET", "POST"])
def webhook_change(request: TeamRequest, uid: str) -> HttpResponse:
    """Change where it goes and what it is told."""
    endpoint = webhook_endpoint(request.actor, uid)
    initial = {name: getattr(endpoint, name) for name in EndpointForm.base_fields}
    form = EndpointForm(request.POST or None, initial=initial)
    if request.method == "POST" and form.is_valid():
        try:
            webhooks.change_endpoint(actor=request.actor, uid=uid, **form.cleaned_data)
        except DomainError as error:
            form.add_error("url" if error.code == "url_refused" else None, error.message)
        else:
            messages.success(request, _("Saved."))
            return _back(request, uid)
    return _form(request, form, endpoint)


@team_view(can=Can.WEBHOOKS)
@require_POST
@never_cache
def webhook_rotate(request: TeamRequest, uid: str) -> HttpResponse:
    """Make a new secret and show it once."""
    made = webhooks.rotate_secret(actor=request.actor, uid=uid)
    return _page(request, made.endpoint, secret=made.text, status=201)


@team_view(can=Can.WEBHOOKS)
@require_POST
def webhook_test(request: TeamRequest, uid: str) -> HttpResponse:
    """Send a test message."""
    webhooks.send_test(actor=request.actor, uid=uid)
    messages.success(request, _("A test message is on its way. Reload the page to see the answer."))
    return _back(request, uid)


@team_view(can=Can.WEBHOOKS)
@require_POST
def webhook_switch(request: TeamRequest, uid: str) -> HttpResponse:
    """Switch a webhook on or off."""
    is_on = request.POST.get("enabled") == "on"
    webhooks.change_endpoint(actor=request.actor, uid=uid, enabled=is_on)
    messages.success(request, _("It is switched on.") if is_on else _("It is switched off."))
    return _back(request, uid)


@team_view(can=Can.WEBHOOKS)
@require_POST
def webhook_delete(request: TeamRequest, uid: str) -> HttpResponse:
    """Delete a webhook and its log."""
    webhooks.delete_endpoint(actor=request.actor, uid=uid)
    messages.success(request, _("The webhook is deleted."))
    return HttpResponseRedirect(
        reverse("notifications:webhook_list", args=[request.actor.team.slug]), status=303
    )


@team_view(can=Can.WEBHOOKS)
@require_GET
def webhook_delivery(request: TeamRequest, uid: str) -> HttpResponse:
    """Show one message: what was sent, and each try."""
    shown = delivery(request.actor, uid)
    context = {"delivery": shown, "sent": body_for(shown.endpoint, shown.event).decode()}
    return render(request, "notifications/webhook_delivery.html", context)


@team_view(can=Can.WEBHOOKS)
@require_POST
def webhook_replay(request: TeamRequest, uid: str) -> HttpResponse:
    """Send a message again."""
    sent = webhooks.replay(actor=request.actor, uid=uid)
    messages.success(request, _("The message is on its way again, with the same id."))
    return HttpResponseRedirect(
        reverse("notifications:webhook_delivery", args=[request.actor.team.slug, sent.uid]), status=303
    )


def _page(
    request: TeamRequest, endpoint: WebhookEndpoint, secret: str = "", status: int = 200
) -> HttpResponse:
    log = Paginator(deliveries(request.actor, endpoint), PAGE)
    context = {"endpoint": endpoint, "secret": secret, "page": log.get_page(request.GET.get("page"))}
    return render(request, "notifications/webhook.html", context, status=status)


def _form(request: TeamRequest, form: EndpointForm, endpoint: WebhookEndpoint | None = None) -> HttpResponse:
    status = 422 if form.errors else 200
    context = {"form": form, "endpoint": endpoint}
    return render(request, "notifications/webhook_form.html", context, status=status)


def _back(request: TeamRequest, uid: str) -> HttpResponse:
    address = reverse("notifications:webhook", args=[request.actor.team.slug, uid])
    return HttpResponseRedirect(address, status=303)
