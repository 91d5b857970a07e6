"""The form of a new training: the choices at the top, and every setting of the recipe below."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django import forms
from django.http import QueryDict
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from training.advisor.recommend import GIVEN
from training.advisor.templates import TemplateKey
from training.engine.fields import FieldInfo
from training.engine.registry import method_names, optimizer_names, sampler_names
from training.engine.spec import FIELDS
from training.models import FoundationModel
from training.selectors import PictureSet
from training.services.recipes import Recipe
from training.setting_groups import GROUPS

MOST_PROMPTS = 8
RECOMMENDED = "recommended."
# What people put between numbers, full-width as well.
_BETWEEN = re.compile(r"[\s,;，、；]+")

BASIC = ("/training/steps", "/training/epochs", "/method/rank", "/training/learning_rate")
# What is installed is chosen by name.
INSTALLED = {
    "/method/type": method_names,
    "/training/optimizer": optimizer_names,
    "/sampling/sampler": sampler_names,
}
# Set by other means on this page, or (the epochs between checkpoints) only in a recipe file.
ELSEWHERE = frozenset({"/sampling/prompts", "/checkpoint/every_epochs"})
EDITABLE = tuple(pointer for pointer in FIELDS if pointer not in GIVEN | ELSEWHERE)


class TrainingForm(forms.Form):
    """The choices that everything else follows from."""

    source = forms.ChoiceField(label=gettext_lazy("Picture set"))
    base_model = forms.ModelChoiceField(
        FoundationModel.objects.none(),
        label=gettext_lazy("Base model"),
        to_field_name="key",
        empty_label=None,
        widget=forms.RadioSelect,
    )
    template = forms.ChoiceField(
        label=gettext_lazy("What do you want to teach?"),
        choices=TemplateKey.choices,
        widget=forms.RadioSelect,
    )
    name = forms.CharField(
        label=gettext_lazy("Name"),
        max_length=80,
        help_text=gettext_lazy("The LoRA and its file are called this."),
    )
    trigger = forms.CharField(
        label=gettext_lazy("Trigger word"),
        max_length=60,
        required=False,
        help_text=gettext_lazy(
            "Write it in a prompt to call what was learned. Best a word that means nothing yet."
        ),
    )
    prompts = forms.CharField(
        label=gettext_lazy("Sample prompts"),
        required=False,
        widget=forms.Textarea(attrs={"rows": 5, "spellcheck": "false"}),
        help_text=gettext_lazy(
            "One on each line, drawn before and during the training. {trigger} is filled in."
        ),
    )
    length_unit = forms.ChoiceField(
        label=gettext_lazy("Count in"),
        choices=[("steps", gettext_lazy("Steps")), ("epochs", gettext_lazy("Epochs"))],
        required=False,
    )
    express = forms.BooleanField(label=gettext_lazy("Express"), required=False)
    gpus = forms.TypedChoiceField(
        label=gettext_lazy("GPUs"),
        coerce=int,
        empty_value=None,
        required=False,
        help_text=gettext_lazy(
            "Of one machine. They share each step, so the training is faster; each of them is charged."
        ),
    )
    form_token = forms.CharField(widget=forms.HiddenInput, max_length=64)

    def __init__(self, *args: Any, sets: list[PictureSet], most_gpus: int = 1, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["gpus"].choices = [(n, str(n)) for n in range(1, most_gpus + 1)]  # type: ignore[attr-defined]
        self.fields["source"].choices = [(each.uid, set_label(each)) for each in sets]  # type: ignore[attr-defined]
        self.fields["base_model"].queryset = FoundationModel.objects.filter(is_active=True)  # type: ignore[attr-defined]

    def clean_name(self) -> str:
        return " ".join(self.cleaned_data["name"].split())

    def clean_prompts(self) -> list[str]:
        lines = [line.strip() for line in self.cleaned_data["prompts"].splitlines()]
        prompts = [line[:300] for line in lines if line]
        if len(prompts) > MOST_PROMPTS:
            raise forms.ValidationError(
                _("Give at most %(n)s prompts: each is drawn at every round of samples.")
                % {"n": MOST_PROMPTS}
            )
        return prompts


def set_label(each: PictureSet) -> str:
    """Say a picture set in one line: name, version, count, project."""
    count = ngettext("%(n)s picture", "%(n)s pictures", each.count) % {"n": each.count}
    name = f"{each.name} v{each.number}" if each.number else _("%(name)s, as it is now") % {"name": each.name}
    return f"{name} · {count} · {each.project}"


@dataclass(frozen=True, slots=True)
class Setting:
    """Be one setting on the page: its description, its value, what is recommended and why."""

    info: FieldInfo
    value: Any
    recommended: Any
    reason: str = ""
    error: str = ""
    low: float = 0
    high: float = 0
    step: float = 1

    @property
    def name(self) -> str:
        return self.info.pointer.strip("/").replace("/", ".")

    @property
    def key(self) -> str:
        return self.name.replace(".", "-")

    @property
    def label(self) -> str:
        return _(self.info.label)

    @property
    def help(self) -> str:
        return _(self.info.help)

    @property
    def unit(self) -> str:
        """Give what the value counts, unless the label says it already."""
        unit = self.info.unit
        return "" if not unit or unit in self.info.label.lower() else _(unit)

    @property
    def remembered(self) -> str:
        """Give the recommended value for the hidden field that tells a changed setting from an untouched one."""
        return json.dumps(self.recommended)

    @property
    def is_changed(self) -> bool:
        return bool(self.value != self.recommended)

    @property
    def shown(self) -> str:
        """Give the value as it stands in the control."""
        return _shown(self.value)

    @property
    def recommended_shown(self) -> str:
        return _shown(self.recommended)

    @property
    def choices(self) -> list[str]:
        names = INSTALLED.get(self.info.pointer)
        return names() if names else list(self.info.choices)


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return ", ".join(map(_shown, value))
    if isinstance(value, bool):
        return _("on") if value else _("off")
    if isinstance(value, float) and value == int(value) and abs(value) < 1e15:
        return str(int(value))
    return str(value)


def read_settings(data: QueryDict) -> dict[str, Any]:
    """Return the settings that the person changed, by JSON pointer.

    A value that equals the recommendation it was shown with was not touched: it follows the recommendation.
    What cannot be read stays text, and the recipe's own check says what is wrong with it.
    """
    chosen: dict[str, Any] = {}
    for pointer in EDITABLE:
        info = FIELDS[pointer]
        name = pointer.strip("/").replace("/", ".")
        if RECOMMENDED + name not in data:
            continue
        try:
            shown_with = json.loads(str(data[RECOMMENDED + name]))
        except ValueError:
            shown_with = object()
        value = name in data if info.kind == "bool" else _read(info, data.get(name, ""))
        if value != shown_with:
            chosen[pointer] = value
    return chosen


def _read(info: FieldInfo, raw: str) -> Any:
    raw = raw.strip()
    if info.kind in ("int", "float"):
        if not raw:
            return None
        try:
            return int(raw) if info.kind == "int" else float(raw)
        except ValueError:
            return raw
    if info.kind == "ints":
        try:
            return [int(number) for number in _BETWEEN.split(raw) if number]
        except ValueError:
            return raw
    if not raw and info.nullable:
        return None
    return raw


def setting(recipe: Recipe, pointer: str, *, value: Any = None, recommended: Any = None) -> Setting:
    """Return one setting of `recipe` for the page; `value` and `recommended` replace what the recipe says."""
    info, advice = FIELDS[pointer], recipe.advice[pointer]
    recommended = advice.value if recommended is None else recommended
    value = recipe.values[pointer] if value is None else value
    errors = [error.message for error in recipe.errors if error.pointer == pointer]
    low, high, step = _range(pointer, recommended, value)
    return Setting(
        info=info,
        value=value,
        recommended=recommended,
        reason=str(advice.reason),
        error=" ".join(errors),
        low=low,
        high=high,
        step=step,
    )


def _range(pointer: str, recommended: Any, value: Any) -> tuple[float, float, float]:
    """Return the slider's ends and step: from a tenth of the recommended value to a few times as much."""
    if pointer not in BASIC or not isinstance(recommended, int | float):
        return 0, 0, 1
    numbers = [n for n in (recommended, value) if isinstance(n, int | float) and n > 0]
    top = max(numbers)
    if pointer == "/method/rank":
        return 1, max(64, top), 1
    if pointer == "/training/learning_rate":
        step = float(f"{recommended / 20:.0e}")
        return step, max(float(f"{recommended * 4:.2g}"), top), step
    step = 10 if recommended >= 100 else 1
    return step, max(recommended * 4, top), step


def grouped(recipe: Recipe) -> list[tuple[str, list[Setting], int]]:
    """Return the advanced groups: title, settings, and how many of them were changed."""
    groups = []
    for title, pointers in GROUPS:
        settings = [setting(recipe, pointer) for pointer in pointers]
        groups.append((str(title), settings, sum(each.is_changed for each in settings)))
    return groups


def changed_since(data: Mapping[str, Any], recipe: Recipe) -> bool:
    """Tell whether the page shows other recommendations than the ones that hold now."""
    for pointer in EDITABLE:
        if pointer == "/training/epochs":  # shown with what the recommended steps come to
            continue
        name = RECOMMENDED + pointer.strip("/").replace("/", ".")
        if name in data and data[name] != json.dumps(recipe.advice[pointer].value):
            return True
    return False
