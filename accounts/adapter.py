"""Accounts through allauth: sign-up with a team of one's own, mail in the reader's words, sessions that end."""

from __future__ import annotations

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.models import EmailAddress
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.hashers import make_password
from django.core.mail import EmailMessage
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.utils.translation import get_language
from django.utils.translation import gettext as _

from accounts.joining import join_or_begin, open_invitation
from accounts.models import User
from accounts.sessions import TRACKED, end_sessions_of
from accounts.time_zones import is_time_zone
from core.mail import written_for
from core.realtime.access import tell_access_changed
from core.views import remember


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]
    """Give every new person a team in the same transaction, so that nobody is without one."""

    def save_user(self, request: HttpRequest, user: User, form: Any, commit: bool = True) -> User:
        with transaction.atomic():
            user.name = form.cleaned_data.get("name", "").strip()
            user.language = get_language() or settings.LANGUAGE_CODE
            if is_time_zone(zone := form.cleaned_data.get("time_zone") or ""):
                user.time_zone = zone
            saved: User = super().save_user(request, user, form, commit)
            if commit:
                join_or_begin(request, saved, form.cleaned_data.get("team") or "")
        return saved

    def is_email_verified(self, request: HttpRequest, email: str) -> bool:
        """Take an address as confirmed if its invitation's link was opened in this browser."""
        invited = open_invitation(request)
        return bool(invited and invited.email == email.lower()) or super().is_email_verified(request, email)

    def confirm_email(self, request: HttpRequest, email_address: EmailAddress) -> bool:
        """Refuse an address that somebody else logs in with, although they never confirmed it."""
        others = User.objects.filter(email=email_address.email).exclude(pk=email_address.user_id)
        if others.exists():
            self.add_message(request, messages.ERROR, "account/messages/email_confirmation_failed.txt")
            return False
        return bool(super().confirm_email(request, email_address))

    # -- Sessions ---------------------------------------------------------------------------------------------

    def login(self, request: HttpRequest, user: User) -> None:
        super().login(request, user)
        request.session[TRACKED] = True

    def post_login(self, request: HttpRequest, user: User, **kwargs: Any) -> HttpResponse:
        """Go on in the person's language, whatever this browser showed before."""
        response: HttpResponse = super().post_login(request, user, **kwargs)
        remember(response, settings.LANGUAGE_COOKIE_NAME, user.language)
        return response

    def logout(self, request: HttpRequest) -> None:
        super().logout(request)
        transaction.on_commit(tell_access_changed, robust=True)

    def set_password(self, user: User, password: str) -> None:
        """Set the password and log the person out everywhere but here."""
        super().set_password(user, password)
        here = self.request.session.session_key if self.request.user == user else None
        end_sessions_of(user, keep=here)

    def get_reauthentication_methods(self, user: User) -> list[dict[str, Any]]:
        """Name the ways to prove that it is still the same person."""
        words = {
            "reauthenticate": _("Use your password"),
            "mfa_reauthenticate": _("Use a code"),
            "mfa_reauthenticate:webauthn": _("Use a security key"),
        }
        methods = super().get_reauthentication_methods(user)
        return [{**method, "description": words[method["id"]]} for method in methods]

    # -- Mail -------------------------------------------------------------------------------------------------

    def send_notification_mail(
        self,
        template_prefix: str,
        user: User,
        context: dict[str, Any] | None = None,
        email: str | None = None,
    ) -> None:
        super().send_notification_mail(template_prefix, user, {"user": user, **(context or {})}, email)
        # A second factor may have come or gone, and teams may ask for one. allauth has no other place for it.
        if template_prefix.startswith("mfa/"):
            transaction.on_commit(tell_access_changed, robust=True)

    def send_account_already_exists_mail(self, email: str) -> None:
        """Write to the owner of the address, and take as long as making an account would."""
        make_password("as much work as for a new account")
        super().send_account_already_exists_mail(email)

    def render_mail(
        self,
        template_prefix: str,
        email: str,
        context: dict[str, Any],
        headers: dict[str, str] | None = None,
    ) -> EmailMessage:
        """Write in the reader's language and time, whatever this browser shows."""
        reader = context.get("user") or User.objects.filter(email=email).first()
        if not isinstance(reader, User):
            return super().render_mail(template_prefix, email, context, headers)
        with written_for(reader.language, reader.time_zone):
            return super().render_mail(template_prefix, email, context, headers)
