"""Logins through other services: who comes the first time gets an account like everybody else."""

from __future__ import annotations

from typing import Any

from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.models import SocialLogin
from django.conf import settings
from django.db import transaction
from django.http import HttpRequest
from django.utils.translation import get_language

from accounts.joining import join_or_begin
from accounts.models import User


class SocialAccountAdapter(DefaultSocialAccountAdapter):  # type: ignore[misc]
    """Give newcomers from another service a name, a language and a team."""

    def populate_user(self, request: HttpRequest, sociallogin: SocialLogin, data: dict[str, Any]) -> User:
        user: User = super().populate_user(request, sociallogin, data)
        both = " ".join(data.get(part) or "" for part in ("first_name", "last_name")).strip()
        user.name = str(data.get("name") or both or data.get("username") or "")[:100]
        user.email = user.email.lower()
        user.language = get_language() or settings.LANGUAGE_CODE
        # Some services write "false" in quotation marks, which Python takes for true.
        for address in sociallogin.email_addresses:
            address.verified = address.verified in (True, "true", "True")
        return user

    def save_user(self, request: HttpRequest, sociallogin: SocialLogin, form: Any = None) -> User:
        with transaction.atomic():
            user: User = super().save_user(request, sociallogin, form)
            # With a form the account adapter has done it.
            if form is None:
                join_or_begin(request, user)
        return user
