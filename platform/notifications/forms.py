"""Forms of the notifications app."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from notifications.events import OFFERED
from notifications.kinds import Kind, MailWhen
from notifications.models import EndpointKind


class EndpointForm(forms.Form):
    """Where to send what. The service checks the address."""

    url = forms.CharField(
        label=_("Address"),
        max_length=500,
        help_text=_(
            "It gets a POST for every event. For Slack and Discord: the address of an incoming webhook."
        ),
        widget=forms.URLInput(attrs={"placeholder": "https://example.org/hooks", "autocomplete": "off"}),
    )
    kind = forms.ChoiceField(label=_("Kind"), choices=EndpointKind.choices, initial=EndpointKind.STANDARD)
    description = forms.CharField(
        label=_("Description"), max_length=120, required=False, help_text=_("For you and your team.")
    )
    event_types = forms.MultipleChoiceField(
        label=_("Events"),
        required=False,
        widget=forms.CheckboxSelectMultiple,
        choices=[(kind.value, kind.label) for kind in OFFERED],
        help_text=_("Choose none to get them all, also those that are added later."),
    )


class ChoicesForm(forms.Form):
    """When a person wants mail about each kind."""

    def __init__(self, current: dict[Kind, MailWhen], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for kind, when in current.items():
            self.fields[kind.value] = forms.ChoiceField(
                label=kind.label, choices=MailWhen.choices, initial=when.value
            )

    def choices(self) -> dict[Kind, MailWhen]:
        """Return what was chosen."""
        return {Kind(name): MailWhen(value) for name, value in self.cleaned_data.items()}
