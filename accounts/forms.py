"""Forms of the accounts app."""

from __future__ import annotations

from typing import Any

from django import forms
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _


class SignupDetailsForm(forms.Form):
    """What sign-up asks for besides e-mail and password; allauth mixes it into its own form."""

    name = forms.CharField(label=_("Your name"), max_length=100)
    team = forms.CharField(label=_("Team name"), max_length=80, required=False)

    def signup(self, request: HttpRequest, user: Any) -> None:
        """Do nothing more: the adapter stores name and team with the person."""
