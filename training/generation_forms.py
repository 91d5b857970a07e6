"""The form of the playground: what to draw, with which LoRAs, and what to compare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from projects.models import LoraVersion, Project
from training.engine.fields import MOST_LINES
from training.engine.generation import FIELDS
from training.models import FoundationModel, TrainingJob
from training.services.generations import Use

# Rows of LoRAs that the page offers; the API takes more.
ROWS = (1, 2, 3)
SWEEP = (0.4, 0.7, 1.0)
_PLAIN, _BESIDE, _SWEEP = "", "base", "sweep"


def _number(name: str) -> forms.IntegerField:
    info = FIELDS[f"/{name}"]
    return forms.IntegerField(
        label=gettext_lazy(info.label),
        required=False,
        min_value=int(info.minimum or 0),
        max_value=int(info.maximum or 0),
    )


class PlaygroundForm(forms.Form):
    """Read an order of pictures; everything but the prompts has a value of its own."""

    prompts = forms.CharField(
        label=gettext_lazy("Prompts"),
        widget=forms.Textarea(attrs={"rows": 3, "placeholder": gettext_lazy("a lighthouse at night")}),
        help_text=gettext_lazy("One picture idea a line."),
        max_length=8000,
    )
    compare = forms.ChoiceField(
        label=gettext_lazy("Compare"),
        required=False,
        choices=(
            (_PLAIN, gettext_lazy("Nothing, just draw")),
            (_BESIDE, gettext_lazy("With and without the LoRA")),
            (_SWEEP, gettext_lazy("Strengths 0.4, 0.7 and 1.0")),
        ),
    )
    count = _number("count")
    seed = _number("seed")
    base_model = forms.ChoiceField(
        label=gettext_lazy("Base model"),
        required=False,
        help_text=gettext_lazy("Needed only without a LoRA; each LoRA knows its own."),
    )
    project = forms.ChoiceField(
        label=gettext_lazy("Project"),
        required=False,
        help_text=gettext_lazy("Who sees the project sees the pictures. Left open, it is that of the LoRA."),
    )
    negative = forms.CharField(
        label=gettext_lazy("Negative prompt"),
        required=False,
        max_length=1000,
        help_text=gettext_lazy("What the pictures must not show."),
    )
    width = _number("width")
    height = _number("height")
    steps = _number("steps")
    guidance = forms.FloatField(label=gettext_lazy("Guidance"), required=False, min_value=1.0, max_value=50.0)
    form_token = forms.CharField(widget=forms.HiddenInput, max_length=64, required=False)

    def __init__(
        self,
        data: Any,
        *,
        versions: Sequence[LoraVersion],
        bases: Sequence[FoundationModel],
        projects: Sequence[Project],
    ) -> None:
        super().__init__(data)
        names = [(each.uid, f"{each} · {each.base_model}") for each in versions]
        for row in ROWS:
            self.fields[f"lora_{row}"] = forms.ChoiceField(
                label=gettext_lazy("LoRA"), required=False, choices=[("", _("None")), *names]
            )
            self.fields[f"strength_{row}"] = forms.FloatField(
                label=gettext_lazy("Strength"), required=False, min_value=-4.0, max_value=4.0
            )
        base = self.fields["base_model"]
        base.choices = [("", _("As the LoRA needs")), *((each.key, each.name) for each in bases)]  # type: ignore[attr-defined]
        project = self.fields["project"]
        project.choices = [("", _("As the LoRA's")), *((each.uid, each.name) for each in projects)]  # type: ignore[attr-defined]

    def clean_prompts(self) -> list[str]:
        """Return the lines that say something."""
        lines = [line.strip() for line in self.cleaned_data["prompts"].splitlines()]
        prompts = [line for line in lines if line]
        if len(prompts) > MOST_LINES:
            raise forms.ValidationError(_("Give at most %(n)s prompts at once.") % {"n": MOST_LINES})
        return prompts

    def mixes(self) -> list[list[Use]]:
        """Return the mixes of LoRAs that the order asks for."""
        mine = []
        for row in ROWS:
            strength = self.cleaned_data[f"strength_{row}"]
            if uid := self.cleaned_data[f"lora_{row}"]:
                mine.append(Use(uid, 1.0 if strength is None else strength))
        if not mine:
            return [[]]
        if self.cleaned_data["compare"] == _BESIDE:
            return [[], mine]
        if self.cleaned_data["compare"] == _SWEEP:
            return [[Use(use.model_version, strength) for use in mine] for strength in SWEEP]
        return [mine]

    def settings(self) -> dict[str, Any]:
        """Return the values that were given, by their names in the engine."""
        names = ("negative", "count", "seed", "width", "height", "steps", "guidance")
        given = {name: self.cleaned_data[name] for name in names}
        return {name: value for name, value in given.items() if value not in (None, "")}


def first_values(job: TrainingJob | None, version: str, trigger: str, seed: int) -> dict[str, Any]:
    """Return what the form holds at first: an order to draw again, or a model to try."""
    if job is None:
        return {
            "prompts": trigger,
            "lora_1": version,
            "compare": _BESIDE if version else _PLAIN,
            "count": 2,
            "seed": seed,
            **{f"strength_{row}": 1 for row in ROWS},
        }
    spec = job.spec
    values = {
        name: spec[name] for name in ("negative", "count", "seed", "width", "height", "steps", "guidance")
    }
    mixes = spec["mixes"]
    values |= {"prompts": "\n".join(spec["prompts"]), "compare": _compared(mixes)}
    values |= {f"strength_{row}": 1 for row in ROWS}
    values |= {"base_model": job.base.key, "project": job.project.uid}
    for row, use in zip(ROWS, mixes[-1], strict=False):
        values |= {f"lora_{row}": use["version"], f"strength_{row}": use["strength"]}
    return values


def _compared(mixes: Sequence[Sequence[dict[str, Any]]]) -> str:
    if len(mixes) == 2 and not mixes[0]:
        return _BESIDE
    return _SWEEP if len(mixes) == len(SWEEP) and all(mixes) else _PLAIN
