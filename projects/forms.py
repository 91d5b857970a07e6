"""Forms of the projects pages. Rules live in the services; a form only reads what was typed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from core.errors import DomainError
from projects.services.items import BulkAction


class ServiceForm(forms.Form):
    """A form to which a service's refusal can be added, beside its field where the refusal names one."""

    def refuse(self, error: DomainError) -> None:
        field = (error.pointer or "").lstrip("/")
        self.add_error(field if field in self.fields else None, error.message)


class ProjectForm(ServiceForm):
    name = forms.CharField(label=_("Name"), max_length=80, widget=forms.TextInput(attrs={"autofocus": True}))
    description = forms.CharField(
        label=_("Description"), max_length=2000, required=False, widget=forms.Textarea(attrs={"rows": 3})
    )


class VisibilityForm(ServiceForm):
    """Who sees a project: the team, or owners, admins and the members on its list."""

    is_restricted = forms.TypedChoiceField(
        label=_("Who sees this project"),
        choices=[("0", _("Everybody in the team")), ("1", _("Owners, admins and the people chosen here"))],
        coerce=lambda value: value == "1",
        widget=forms.RadioSelect,
    )
    members = forms.MultipleChoiceField(
        label=_("People"), required=False, widget=forms.CheckboxSelectMultiple
    )

    def __init__(self, people: Iterable[User], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["members"]
        assert isinstance(field, forms.MultipleChoiceField)
        field.choices = [(person.uid, f"{person} ({person.email})") for person in people]


class NameForm(ServiceForm):
    name = forms.CharField(label=_("Name"), max_length=80, widget=forms.TextInput(attrs={"autofocus": True}))


class BulkForm(ServiceForm):
    action = forms.ChoiceField(choices=BulkAction.choices)
    text = forms.CharField(required=False, strip=False, max_length=4000)
    replacement = forms.CharField(required=False, strip=False, max_length=4000)
    everything = forms.BooleanField(required=False)
    # What the script sends instead of thousands of boxes.
    uids = forms.CharField(required=False)
