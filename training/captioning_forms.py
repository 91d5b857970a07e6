"""The form that has captions written: by whom, and what becomes of those that are there."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy

from training.engine.captioning import FIELDS
from training.models import CaptionMode
from training.services.captioners import offered_captioners

_LONGEST = FIELDS["/longest"]


class CaptioningForm(forms.Form):
    """Read an order for captions; which pictures are meant is the page's business."""

    captioner = forms.ChoiceField(label=gettext_lazy("Captioner"))
    mode = forms.ChoiceField(
        label=gettext_lazy("Captions that are there"),
        choices=CaptionMode.choices,
        help_text=gettext_lazy("What somebody writes while it runs is never replaced."),
    )
    longest = forms.IntegerField(
        label=gettext_lazy("Words at most"),
        required=False,
        min_value=int(_LONGEST.minimum or 0),
        max_value=int(_LONGEST.maximum or 0),
        initial=_LONGEST.default,
    )
    form_token = forms.CharField(widget=forms.HiddenInput, max_length=64, required=False)

    def __init__(self, data: Any = None) -> None:
        super().__init__(data)
        self.offered = offered_captioners()
        captioner = self.fields["captioner"]
        captioner.choices = [(each.key, each.name) for each in self.offered]  # type: ignore[attr-defined]
        captioner.help_text = " ".join(
            f"{each.name}: {each.description}" for each in self.offered if each.description
        )
