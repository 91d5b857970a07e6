"""Sign-up through allauth: an e-mail address, a name, and a team of one's own."""

from __future__ import annotations

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from django.conf import settings
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.utils.translation import get_language

from accounts.models import User
from accounts.services.teams import create_team
from core.views import remember


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]
    """Give every new person a team in the same transaction, so that nobody is without one."""

    def save_user(self, request: HttpRequest, user: User, form: Any, commit: bool = True) -> User:
        with transaction.atomic():
            user.name = form.cleaned_data.get("name", "").strip()
            user.language = get_language() or settings.LANGUAGE_CODE
            saved: User = super().save_user(request, user, form, commit)
            if commit:
                create_team(owner=saved, name=form.cleaned_data.get("team") or "")
        return saved

    def post_login(self, request: HttpRequest, user: User, **kwargs: Any) -> HttpResponse:
        """Go on in the person's language, whatever this browser showed before."""
        response: HttpResponse = super().post_login(request, user, **kwargs)
        remember(response, settings.LANGUAGE_COOKIE_NAME, user.language)
        return response
