"""Sign-up through allauth: an e-mail address, a name, and a team of one's own."""

from __future__ import annotations

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from django.conf import settings
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.utils.translation import get_language

from accounts.models import Invitation, User
from accounts.services.invitations import accept_invitation, invitation_of
from accounts.services.teams import create_team
from core.views import remember


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]
    """Give every new person a team in the same transaction, so that nobody is without one."""

    def save_user(self, request: HttpRequest, user: User, form: Any, commit: bool = True) -> User:
        with transaction.atomic():
            user.name = form.cleaned_data.get("name", "").strip()
            user.language = get_language() or settings.LANGUAGE_CODE
            saved: User = super().save_user(request, user, form, commit)
            if commit and not _join(request, saved):
                create_team(owner=saved, name=form.cleaned_data.get("team") or "")
        return saved

    def is_email_verified(self, request: HttpRequest, email: str) -> bool:
        """Take an address as confirmed if its invitation's link was opened in this browser."""
        invited = _invitation(request)
        return bool(invited and invited.email == email.lower()) or super().is_email_verified(request, email)

    def post_login(self, request: HttpRequest, user: User, **kwargs: Any) -> HttpResponse:
        """Go on in the person's language, whatever this browser showed before."""
        response: HttpResponse = super().post_login(request, user, **kwargs)
        remember(response, settings.LANGUAGE_COOKIE_NAME, user.language)
        return response


def _invitation(request: HttpRequest) -> Invitation | None:
    """Return the open invitation whose link was opened in this browser."""
    invited = invitation_of(request.session.get("invitation", ""))
    return invited if invited and invited.is_open else None


def _join(request: HttpRequest, person: User) -> bool:
    """Let a new person into the team that invited them; tell whether there was one."""
    invited = _invitation(request)
    if invited is None or invited.email != person.email:
        return False
    accept_invitation(user=person, invitation=invited)
    request.session.pop("invitation", None)
    return True
