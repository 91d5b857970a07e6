"""allauth's own forms where ours must differ. Apart from `forms.py`, which allauth imports while it loads."""

from __future__ import annotations

from allauth.account.forms import AddEmailForm
from allauth.account.internal.flows.email_verification import send_verification_email_to_address
from allauth.account.models import EmailAddress
from django.db import transaction
from django.http import HttpRequest


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
