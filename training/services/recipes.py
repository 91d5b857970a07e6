"""Turn what a person chose into a whole run specification: the recommendation, then their own values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db.models import Count, Max, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from core.errors import DomainError
from projects.models import Dataset, DatasetVersion, DatasetVersionItem, Item
from training.advisor.recommend import GIVEN, Advice, Base, Device, Pictures, common_phrase, recommend
from training.advisor.templates import Template
from training.engine.fields import LONGEST_TEXT, MOST_LINES, MOST_NUMBERS, FieldInfo
from training.engine.spec import FIELDS, RunSpec, SpecError, validate
from training.models import FoundationModel, Worker

# The worker puts the real places here; a frozen recipe names no folder of any machine.
BASE_PATH = "base"
MANIFEST_PATH = "manifest.json"
WORKER_SEEN = timedelta(minutes=2)
_CAPTIONS_LOOKED_AT = 40
# No setting lies deeper than section and name; what is nested further is no setting.
_DEEPEST = 3

# Of each pair only one may be given: choosing one clears the other.
_EITHER = (
    ("/training/steps", "/training/epochs"),
    ("/sampling/every_steps", "/sampling/every_epochs"),
    ("/checkpoint/every_steps", "/checkpoint/every_epochs"),
)


@dataclass(frozen=True, slots=True)
class SettingError:
    """Say what is wrong with one setting, in the reader's language."""

    pointer: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Recipe:
    """Hold a recipe being made: the advice, the values in force, what is wrong, and the spec if nothing is."""

    advice: dict[str, Advice]
    values: dict[str, Any]
    errors: list[SettingError]
    spec: RunSpec | None


def describe_base(model: FoundationModel) -> Base:
    """Return what the advisor wants to know of a base model."""
    return Base(
        key=model.key,
        family=model.family,
        resolution=model.resolution,
        memory_mb=model.memory_mb,
        is_demo=model.is_demo,
        prompts=tuple(model.prompts),
    )


def describe_pictures(source: DatasetVersion | Dataset) -> Pictures:
    """Return what the advisor wants to know of a version, or of a dataset as it would be frozen now (two queries)."""
    items = _items(source)
    counts = items.aggregate(count=Count("id"), captioned=Count("id", filter=~Q(caption="")))
    first = list(items.order_by("id").values_list("caption", flat=True)[:_CAPTIONS_LOOKED_AT])
    tags = sum(caption.count(",") >= 4 and "." not in caption for caption in first)
    return Pictures(**counts, tag_captions=bool(first) and tags * 2 > len(first))


def suggest_trigger(source: DatasetVersion | Dataset, name: str) -> str:
    """Return the phrase that the captions share, else one made of the set's name (one query)."""
    captions = list(_items(source).order_by("id").values_list("caption", flat=True)[:_CAPTIONS_LOOKED_AT])
    letters = "".join(letter if letter.isalnum() else " " for letter in name.lower())
    return common_phrase(captions) or " ".join(letters.split())[:40]


def _items(source: DatasetVersion | Dataset) -> QuerySet[Any]:
    if isinstance(source, Dataset):
        return Item.objects.for_team(source.team).filter(dataset=source, excluded=False)
    return DatasetVersionItem.objects.for_team(source.team).filter(version=source)


def best_device() -> Device:
    """Return the largest device that was heard of lately; a plain processor if none was."""
    seen = Worker.objects.filter(seen_at__gte=timezone.now() - WORKER_SEEN)
    return Device(memory_mb=seen.aggregate(most=Max("memory_mb"))["most"] or 0)


def make_recipe(
    *,
    base: Base,
    template: Template,
    pictures: Pictures,
    device: Device,
    name: str,
    trigger: str = "",
    settings: Mapping[str, Any] | None = None,
    prompts: Sequence[str] | None = None,
) -> Recipe:
    """Return the recipe for `settings` (see `flatten`) on top of what is recommended."""
    chosen = flatten(settings or {})
    if prompts is not None:
        chosen["/sampling/prompts"] = list(prompts)
    advice = recommend(base, template, pictures, device, chosen)
    values = {pointer: each.value for pointer, each in advice.items()}
    return _checked(base.family, name, trigger, values, chosen, advice)


def change_recipe(spec: Mapping[str, Any], settings: Mapping[str, Any], *, name: str) -> Recipe:
    """Return the recipe of an old run with some settings changed; nothing else is recommended anew."""
    old = flatten({key: value for key, value in spec.items() if isinstance(value, Mapping)})
    values = {pointer: value for pointer, value in old.items() if pointer not in GIVEN}
    family = str(spec["base_model"]["family"])
    return _checked(family, name, str(spec.get("trigger", "")), values, flatten(settings), {})


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return settings by JSON pointer. Keys may be pointers, dotted (`training.steps`) or nested mappings."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        pointer = str(key) if str(key).startswith("/") else f"{prefix}/{str(key).replace('.', '/')}"
        if isinstance(value, Mapping) and pointer.count("/") < _DEEPEST:
            flat.update(flatten(value, pointer))
        else:
            flat[pointer] = list(value) if isinstance(value, tuple) else value
    return flat


def require_valid(recipe: Recipe) -> RunSpec:
    """Return the recipe's spec; raise DomainError with every wrong setting in `errors`."""
    if recipe.spec is not None:
        return recipe.spec
    first = recipe.errors[0]
    raise DomainError(
        "invalid_settings",
        first.message,
        pointer=f"settings{first.pointer}",
        errors=[
            {"pointer": f"settings{e.pointer}", "code": e.code, "detail": e.message} for e in recipe.errors
        ],
    )


def _checked(
    family: str,
    name: str,
    trigger: str,
    values: dict[str, Any],
    chosen: Mapping[str, Any],
    advice: dict[str, Advice],
) -> Recipe:
    errors = [
        SettingError(pointer, "not_yours", _("This is set by the platform and cannot be changed."))
        for pointer in chosen
        if pointer in GIVEN
    ]
    values = dict(values)
    for pointer, value in chosen.items():
        if pointer not in GIVEN:
            values[pointer] = value
    values = {
        pointer: FIELDS[pointer].meant(value) if pointer in FIELDS else value
        for pointer, value in values.items()
    }
    for pair in _EITHER:
        for one, other in (pair, pair[::-1]):
            if chosen.get(one) is not None and chosen.get(other) is None:
                values[other] = None
    data = _nest(
        {
            "/name": name.strip(),
            "/trigger": trigger.strip(),
            "/base_model/path": BASE_PATH,
            "/base_model/family": family,
            "/dataset/manifest": MANIFEST_PATH,
            **values,
        }
    )
    errors += [SettingError(error.pointer, error.code, explain(error)) for error in validate(data)]
    return Recipe(advice, values, errors, None if errors else RunSpec.from_dict(data))


def _nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for pointer, value in flat.items():
        *sections, leaf = pointer.strip("/").split("/")
        node = data
        for part in sections:
            child = node.setdefault(part, {})
            if not isinstance(child, dict):  # both "training" and "training.steps" were given
                child = node[part] = {}
            node = child
        node[leaf] = value
    return data


def explain(error: SpecError, fields: Mapping[str, FieldInfo] = FIELDS) -> str:
    """Return the message of a wrong setting in the reader's language."""
    info: FieldInfo | None = fields.get(error.pointer)
    label = _(info.label) if info else error.pointer
    if error.code == "unknown_key":
        return _("There is no setting %(pointer)s.") % {"pointer": error.pointer}
    if error.code == "out_of_range" and info:
        low, high = info.minimum, info.maximum
        if low is not None and high is not None:
            limits = {"label": label, "low": plain(low), "high": plain(high)}
            return _("%(label)s must be between %(low)s and %(high)s.") % limits
        return _("%(label)s must be at least %(low)s.") % {"label": label, "low": plain(low or 0)}
    if error.code == "not_a_choice" and info:
        return _("%(label)s must be one of: %(choices)s.") % {
            "label": label,
            "choices": ", ".join(info.choices),
        }
    if error.code == "too_long" and info:
        if info.kind == "list":
            return _("%(label)s: at most %(n)s lines of %(longest)s characters.") % {
                "label": label,
                "n": MOST_LINES,
                "longest": LONGEST_TEXT,
            }
        if info.kind == "ints":
            return _("%(label)s: at most %(n)s numbers.") % {"label": label, "n": MOST_NUMBERS}
        return _("%(label)s may have at most %(n)s characters.") % {"label": label, "n": LONGEST_TEXT}
    if error.code == "bad_text":
        return _("%(label)s holds a character that cannot be stored. Remove it.") % {"label": label}
    if error.code == "missing":
        return _("%(label)s is needed.") % {"label": label}
    if error.code == "wrong_type" and info:
        kinds = {
            "int": _("a whole number"),
            "float": _("a number"),
            "bool": _("yes or no"),
            "list": _("a list of lines"),
            "ints": _("a list of whole numbers, for example 512, 768"),
        }
        return _("%(label)s must be %(kind)s.") % {"label": label, "kind": kinds.get(info.kind, _("text"))}
    problem = _(error.template) % error.values if error.values else _(error.message)
    if error.code == "conflict" and info:
        return _("%(label)s: %(problem)s.") % {"label": label, "problem": problem}
    return problem


def plain(number: float) -> str:
    """Return a number as people write it: 1000000, 0.0001, 1e-09."""
    return str(int(number)) if number == int(number) else f"{number:g}"
