"""A team's API keys. A key's text is shown in the answer that makes it, and never again."""

from __future__ import annotations

from datetime import timedelta

from django.contrib import messages
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from accounts.forms import ApiKeyForm
from accounts.roles import Can
from accounts.selectors import team_api_keys
from accounts.services.api_keys import NewKey, create_api_key, revoke_api_key, roll_api_key
from accounts.web import TeamRequest, team_view
from core.errors import DomainError


def _page(
    request: TeamRequest, form: ApiKeyForm, new: NewKey | None = None, status: int = 200
) -> HttpResponse:
    # The form is a dialog; its link has an address, so that it opens without a script too.
    asking = bool(form.errors) or (request.method == "GET" and "new" in request.GET)
    now = timezone.now()
    context = {"keys": team_api_keys(request.actor), "now": now, "form": form, "new": new, "asking": asking}
    return render(request, "accounts/api_key_list.html", context, status=status)


@team_view(can=Can.API_KEYS)
@require_GET
def api_key_list(request: TeamRequest) -> HttpResponse:
    """List the keys; their texts are not known to us any more."""
    return _page(request, ApiKeyForm(request.actor))


# A redirect would have to store the key somewhere to show it: the answer to the POST is the only copy.
@team_view(can=Can.API_KEYS)
@require_POST
@never_cache
def api_key_create(request: TeamRequest) -> HttpResponse:
    """Make a key and show it once."""
    form = ApiKeyForm(request.actor, request.POST)
    if not form.is_valid():
        return _page(request, form, status=422)
    try:
        new = create_api_key(actor=request.actor, **form.values())
    except DomainError as error:
        form.add_error("networks" if error.pointer == "/allowed_networks" else None, error.message)
        return _page(request, form, status=422)
    return _page(request, ApiKeyForm(request.actor), new, status=201)


@team_view(can=Can.API_KEYS)
@require_POST
@never_cache
def api_key_roll(request: TeamRequest, uid: str) -> HttpResponse:
    """Make a key that takes over, and show it once; the old one goes on for the chosen hours."""
    hours = request.POST.get("hours", "")
    overlap = timedelta(hours=min(int(hours), 24 * 30) if hours.isdecimal() and len(hours) < 5 else 24)
    new = roll_api_key(actor=request.actor, uid=uid, overlap=overlap)
    return _page(request, ApiKeyForm(request.actor), new, status=201)


@team_view(can=Can.API_KEYS)
@require_POST
def api_key_revoke(request: TeamRequest, uid: str) -> HttpResponse:
    """Revoke a key at once."""
    revoke_api_key(actor=request.actor, uid=uid)
    messages.success(request, _("The key is revoked. Programs that use it are refused from now on."))
    return HttpResponseRedirect(reverse("accounts:api_key_list", args=[request.actor.team.slug]), status=303)
