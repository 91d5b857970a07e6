"""allauth's own forms where ours must differ. Apart from `forms.py`, which allauth imports while it loads."""

from __future__ import annotations

import struct
from typing import Any

from allauth.account.forms import AddEmailForm
from allauth.account.internal.flows.email_verification import send_verification_email_to_address
from allauth.account.models import EmailAddress
from allauth.mfa.adapter import get_adapter
from allauth.mfa.totp.forms import ActivateTOTPForm
from allauth.mfa.webauthn.forms import (
    AddWebAuthnForm,
    AuthenticateWebAuthnForm,
    LoginWebAuthnForm,
    ReauthenticateWebAuthnForm,
)
from django import forms
from django.db import transaction
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _


class ChangeEmailForm(AddEmailForm):  # type: ignore[misc]
    """Ask for a new address; the one in use stays until the link in the mail was opened.

    allauth would take an address that was never confirmed away at once, and with it the login.
    """

    def save(self, request: HttpRequest) -> EmailAddress:
        waiting = EmailAddress.objects.filter(user=self.user, verified=False).exclude(email=self.user.email)
        with transaction.atomic():
            waiting.delete()
            address = EmailAddress.objects.create(user=self.user, email=self.cleaned_data["email"])
        send_verification_email_to_address(request, address)
        return address


class ActivateAppForm(ActivateTOTPForm):  # type: ignore[misc]
    """Ask for the digits with the right keyboard on a telephone."""

    code = forms.CharField(
        label=_("Type the six digits that the app shows"),
        widget=forms.TextInput(attrs={"autocomplete": "one-time-code", "inputmode": "numeric"}),
    )


class _Readable:
    """Say "incorrect" to an answer of a security key that no key would give; the library would fail on it."""

    def full_clean(self) -> None:
        try:
            super().full_clean()  # type: ignore[misc]
        except (AttributeError, LookupError, TypeError, ValueError, struct.error):
            self.cleaned_data: dict[str, Any] = {}
            self.add_error("credential", get_adapter().validation_error("incorrect_code"))  # type: ignore[attr-defined]


class AddKeyForm(_Readable, AddWebAuthnForm):  # type: ignore[misc]
    pass


class KeyForm(_Readable, AuthenticateWebAuthnForm):  # type: ignore[misc]
    pass


class KeyLoginForm(_Readable, LoginWebAuthnForm):  # type: ignore[misc]
    pass


class KeyAgainForm(_Readable, ReauthenticateWebAuthnForm):  # type: ignore[misc]
    pass
