"""The person deletes their account."""

from __future__ import annotations

from allauth.account.adapter import get_adapter
from allauth.account.decorators import reauthentication_required
from django import forms
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_GET, require_http_methods

from accounts.models import User
from accounts.services.privacy import delete_person, farewell_of, person_data
from accounts.services.teams import KEPT_FOR
from accounts.web import account_view
from core.errors import DomainError
from core.http.decorators import public_view


class GoodbyeForm(forms.Form):
    """The person's own address, so that nobody deletes an account by accident."""

    email = forms.EmailField(
        label=_("Write your e-mail address to confirm"),
        widget=forms.EmailInput(attrs={"autocomplete": "off"}),
    )


@account_view
@require_http_methods(["GET", "POST"])
@reauthentication_required(app="allauth.account")
def profile_delete(request: HttpRequest) -> HttpResponse:
    """Say what happens, ask for the password and the address, and delete the account."""
    assert isinstance(request.user, User)
    person = request.user
    form = GoodbyeForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            delete_person(person=person, email=form.cleaned_data["email"])
        except DomainError as error:
            form.add_error("email" if error.pointer == "/email" else None, error.message)
        else:
            get_adapter().logout(request)
            return HttpResponseRedirect(reverse("accounts:profile_deleted"), status=303)
    context = {
        "form": form,
        "farewell": farewell_of(person),
        "keys": person.api_keys.filter(revoked_at=None).count(),
        "days_kept": KEPT_FOR.days,
    }
    return render(request, "account/delete.html", context, status=422 if request.method == "POST" else 200)


@public_view
@require_GET
def profile_deleted(request: HttpRequest) -> HttpResponse:
    """Say goodbye."""
    return render(request, "account/deleted.html")


@account_view
@require_GET
@reauthentication_required(app="allauth.account")
def profile_data(request: HttpRequest) -> HttpResponse:
    """Give the person everything that is kept about them, as one JSON file."""
    assert isinstance(request.user, User)
    response = JsonResponse(person_data(request.user), json_dumps_params={"indent": 1, "ensure_ascii": False})
    response["Content-Disposition"] = 'attachment; filename="lora-foundry-my-data.json"'
    response["Cache-Control"] = "private, no-store"
    return response
