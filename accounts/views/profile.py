"""The person's own page."""

from __future__ import annotations

from allauth.usersessions.models import UserSession
from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils import translation
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from accounts.forms import ProfileForm
from accounts.models import User
from accounts.selectors import deleted_teams
from accounts.web import account_view
from core.views import remember


@account_view
@require_http_methods(["GET", "POST"])
def profile(request: HttpRequest) -> HttpResponse:
    """Show and change name, language and time zone; the other pages about the person start here."""
    assert isinstance(request.user, User)
    person = request.user
    fields = ("name", "language", "time_zone")
    form = ProfileForm(request.POST or None, initial={name: getattr(person, name) for name in fields})
    if request.method == "GET" or not form.is_valid():
        context = {
            "form": form,
            "deleted_teams": deleted_teams(person),
            "sessions": UserSession.objects.filter(user=person).count(),
        }
        return render(
            request, "accounts/profile.html", context, status=200 if request.method == "GET" else 422
        )
    for name in fields:
        setattr(person, name, form.cleaned_data[name])
    person.save(update_fields=fields)
    with translation.override(person.language):
        messages.success(request, _("Saved."))
    response = HttpResponseRedirect(reverse("accounts:profile"), status=303)
    remember(response, settings.LANGUAGE_COOKIE_NAME, person.language)
    return response
