"""The choice of language: for this browser, and for the person where somebody is logged in."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_POST

from accounts.models import User
from core.http.decorators import public_view
from core.views import back, remember


@public_view
@require_POST
def language(request: HttpRequest) -> HttpResponse:
    """Switch the language; mails to the person follow it."""
    chosen = request.POST.get("language", "")
    response = back(request)
    if chosen in dict(settings.LANGUAGES):
        remember(response, settings.LANGUAGE_COOKIE_NAME, chosen)
        if isinstance(request.user, User):
            User.objects.filter(pk=request.user.pk).update(language=chosen)
    return response
