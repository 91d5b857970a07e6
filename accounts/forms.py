"""Forms of the accounts app."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import forms
from django.conf import settings
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import override

from accounts.actor import Actor
from accounts.roles import KEY_SCOPES, KEY_SCOPES_MORE, Can, Role, may_grant
from accounts.time_zones import time_zone_choices


class SignupDetailsForm(forms.Form):
    """What sign-up asks for besides e-mail and password; allauth mixes it into its own form."""

    name = forms.CharField(
        label=_("Your name"), max_length=100, widget=forms.TextInput(attrs={"autocomplete": "name"})
    )
    team = forms.CharField(
        label=_("Team name"),
        max_length=80,
        required=False,
        help_text=_("Your studio, shop or class. You can change it later."),
        widget=forms.TextInput(attrs={"autocomplete": "organization"}),
    )
    # A script fills it with the browser's own; nobody is asked.
    time_zone = forms.CharField(required=False, max_length=50, widget=forms.HiddenInput)

    def signup(self, request: HttpRequest, user: Any) -> None:
        """Do nothing more: the adapter stores name and team with the person."""


def language_choices() -> list[tuple[str, str]]:
    """Return the languages, each in its own words."""
    choices = []
    for code, name in settings.LANGUAGES:
        with override(code):
            choices.append((code, str(name)))
    return choices


class ProfileForm(forms.Form):
    """What people may change about themselves."""

    name = forms.CharField(
        label=_("Your name"), max_length=100, widget=forms.TextInput(attrs={"autocomplete": "name"})
    )
    language = forms.ChoiceField(
        label=_("Language"),
        choices=language_choices,
        help_text=_("Of the pages and of the mail we send you."),
    )
    time_zone = forms.ChoiceField(
        label=_("Time zone"),
        choices=time_zone_choices,
        help_text=_("Pages and mail tell times as your clock does."),
    )


class TeamForm(forms.Form):
    """What admins may change about a team."""

    name = forms.CharField(label=_("Team name"), max_length=80)
    require_two_factor = forms.BooleanField(
        label=_("Everybody needs a second factor"),
        required=False,
        help_text=_("Members without one see nothing of the team until they have set one up."),
    )


class RoleForm(forms.Form):
    """A role, at most the actor's own."""

    role = forms.ChoiceField(label=_("Role"))

    def __init__(self, actor: Actor, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["role"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [(role.value, role.label) for role in Role if may_grant(actor.role, role)]
        field.initial = Role.EDITOR.value


class InvitationForm(RoleForm):
    """Whom to invite, and as what."""

    email = forms.EmailField(
        label=_("E-mail address"), max_length=254, widget=forms.EmailInput(attrs={"autocomplete": "off"})
    )
    field_order = ("email", "role")


class ApiKeyForm(forms.Form):
    """A new key: where it is used, and what it may do, at most what its maker may."""

    name = forms.CharField(
        label=_("Name"),
        max_length=80,
        help_text=_("Where it is used, for instance: build server."),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    scopes = forms.MultipleChoiceField(
        label=_("What the key may do"),
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": _("Choose at least one right.")},
    )

    expires = forms.TypedChoiceField(
        label=_("Expires"),
        choices=[(0, _("Never")), (30, _("In 30 days")), (90, _("In 90 days")), (365, _("In a year"))],
        coerce=int,
        required=False,
        empty_value="0",
    )
    networks = forms.CharField(
        label=_("Only from these addresses"),
        required=False,
        max_length=1000,
        help_text=_("Addresses or networks such as 203.0.113.0/24, one on each line. Empty means anywhere."),
        widget=forms.Textarea(attrs={"rows": 2, "spellcheck": "false"}),
    )
    is_test = forms.BooleanField(
        label=_("Test key"),
        required=False,
        help_text=_("Its trainings are simulated: for trying out programs, without a GPU and without cost."),
    )

    def __init__(self, actor: Actor, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        allowed = [scope for scope in KEY_SCOPES + KEY_SCOPES_MORE if actor.can(scope)]
        field = self.fields["scopes"]
        assert isinstance(field, forms.MultipleChoiceField)
        field.choices = [(scope.value, scope.label) for scope in allowed]
        field.initial = [scope.value for scope in allowed if scope in KEY_SCOPES]

    def values(self) -> dict[str, Any]:
        """Return what `create_api_key` takes."""
        data = self.cleaned_data
        days = int(data["expires"])
        return {
            "name": data["name"],
            "scopes": [Can(scope) for scope in data["scopes"]],
            "is_test": data["is_test"],
            "expires_at": timezone.now() + timedelta(days=days) if days else None,
            "allowed_networks": data["networks"].split(),
        }
