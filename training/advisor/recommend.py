"""Recommend a value for every setting of a run, each with its reason. Pure: no database, no files, no torch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext as _

from training.advisor.families import DEMO_START, Family, Start, family_of
from training.advisor.memory import decisive, is_known, pictures_at_once
from training.advisor.templates import Template, TemplateKey
from training.engine.spec import FIELDS

_DECIDED = (
    "/name",
    "/trigger",
    "/threads",
    "/base_model/family",
    "/dataset/folder_repeats",
    "/dataset/caption_per_line",
    "/regularisation/template",
)
# What the service decides, never a person: what the run is called, and everything that lies somewhere on the worker.
GIVEN = frozenset(pointer for pointer, field in FIELDS.items() if field.kind == "path" or pointer in _DECIDED)
MOST = 1_000_000_000
SAMPLE_ROUNDS = 5
SAMPLE_PROMPTS = 4
# Fewer than this and keeping some aside costs more than the figure is worth.
FEWEST_FOR_HELD_OUT = 16


@dataclass(frozen=True, slots=True)
class Base:
    """Hold what matters of a base model."""

    key: str
    family: str
    resolution: int
    memory_mb: int = 0
    is_demo: bool = False
    prompts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Device:
    """Hold what a worker has: graphics memory in MB, 0 for a processor without one."""

    memory_mb: int = 0


@dataclass(frozen=True, slots=True)
class Pictures:
    """Hold what matters of a dataset version: how many, and how they are captioned."""

    count: int
    captioned: int = 0
    tag_captions: bool = False


@dataclass(frozen=True, slots=True)
class Advice:
    """Hold one recommended value and, in the reader's language, why."""

    value: Any
    reason: str | Promise = ""


def recommend(
    base: Base,
    template: Template,
    pictures: Pictures,
    device: Device,
    chosen: Mapping[str, Any] | None = None,
) -> dict[str, Advice]:
    """Return the advice for every setting by JSON pointer; `GIVEN` ones are left out.

    `chosen` holds what the person set already, so that what follows from it (learning rate from the batch size,
    sample cadence from the steps) follows from their value.
    """
    chosen = chosen or {}
    family = family_of(base.family)
    start = DEMO_START if base.is_demo else family.starts[template.key]
    advice = {
        pointer: Advice(list(info.default) if info.kind in ("list", "ints") else info.default)
        for pointer, info in FIELDS.items()
        if pointer not in GIVEN
    }
    advice.update(_size(base, start, template))
    advice.update(_memory(base, family, start, device, chosen, advice))
    batch = _whole(chosen, "/training/batch_size", advice)
    accumulation = _whole(chosen, "/training/gradient_accumulation", advice)
    advice.update(_length(base, start, pictures, batch * accumulation))
    advice.update(_optimizer(chosen.get("/training/optimizer"), advice["/training/learning_rate"].value))
    advice.update(_loss(base, family, template, pictures))
    advice.update(_captions(base, template, pictures))
    steps = _whole(chosen, "/training/steps", advice)
    if "/training/steps" not in chosen and (epochs := _number(chosen.get("/training/epochs"))):
        steps = epochs * max(1, math.ceil(pictures.count / (batch * accumulation)))
    advice.update(_cadence(base, family, template, steps))
    return advice


def _whole(chosen: Mapping[str, Any], pointer: str, advice: Mapping[str, Advice]) -> int:
    """Return the person's whole number for `pointer` if it is one, else the recommended one."""
    return _number(chosen.get(pointer)) or int(advice[pointer].value)


def _number(value: Any) -> int:
    """Return a number that may be reckoned with; what is wrong with others, the recipe's own check says."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MOST else 0


def _size(base: Base, start: Start, template: Template) -> dict[str, Advice]:
    rank_reason = (
        _("Enough for a model of this size; more would only make the file larger.")
        if base.is_demo
        else {
            TemplateKey.CHARACTER: _("Holds a face and its details without learning the backgrounds."),
            TemplateKey.STYLE: _("A style touches every part of a picture, so it needs more room."),
            TemplateKey.PRODUCT: _("One object needs little room; a small rank keeps its shape exact."),
            TemplateKey.CONCEPT: _("A concept must combine with other things, so it needs more room."),
        }[template.key]
    )
    return {
        "/method/rank": Advice(start.rank, rank_reason),
        "/method/alpha": Advice(
            float(start.alpha),
            _("Half of the rank: steadier steps at this learning rate.")
            if start.alpha < start.rank
            else _("Equal to the rank: the learning rate means what it says."),
        ),
        "/method/targets": Advice(
            "all" if base.is_demo else "attn-mlp",
            _("A small model needs its convolutions trained too, or it cannot change how things are drawn.")
            if base.is_demo
            else _("Attention and feed-forward layers hold most of what a LoRA can change."),
        ),
        "/training/resolution": Advice(
            base.resolution,
            _("The size this base model was made for: %(px)s pixels.") % {"px": base.resolution},
        ),
    }


def _memory(
    base: Base,
    family: Family,
    start: Start,
    device: Device,
    chosen: Mapping[str, Any],
    advice: Mapping[str, Advice],
) -> dict[str, Advice]:
    """Give batch size and what goes with it; nothing is traded for memory as long as one picture fits without."""
    chosen_batch = _number(chosen.get("/training/batch_size"))
    if base.is_demo:
        return {
            "/training/batch_size": Advice(
                start.batch, _("Small pictures: eight at once cost little memory.")
            ),
            "/training/gradient_accumulation": Advice(1),
        }
    if not device.memory_mb or not is_known(base.family):
        reason = "" if device.memory_mb else _("Without a graphics card one picture at a time is fastest.")
        return {
            "/training/batch_size": Advice(1, reason),
            "/training/gradient_accumulation": _accumulation(start.batch, chosen_batch or 1),
        }
    settings = decisive(chosen, {pointer: each.value for pointer, each in advice.items()})
    values = {"gb": round(device.memory_mb / 1024)}

    def at_once(most: int, pointer: str = "", value: str = "") -> int:
        changed = {pointer: value} if pointer and pointer not in chosen else {}
        return pictures_at_once(base.family, {**settings, **changed}, device.memory_mb, most)

    found = {}
    batch = at_once(family.most_batch, "/training/gradient_checkpointing", "off")
    if batch == family.most_batch:
        reason = _(
            "As many at once as is usual for this base model; they fit in %(gb)s GB of graphics memory."
        )
    elif batch:
        reason = _("The most that fits in %(gb)s GB of graphics memory with room to spare.")
    else:
        reason = _("Few at once: %(gb)s GB is tight for this base model.")
        trade = _("%(gb)s GB is tight for this base model: this trades time for memory.")
        found["/training/gradient_checkpointing"] = Advice("auto", trade % values)
        batch = at_once(start.batch)
    if not batch:
        trade = _("%(gb)s GB is tight for this base model: its weights are narrowed if nothing else fits.")
        found["/base_model/quantise"] = Advice("auto", trade % values)
        batch = at_once(start.batch, "/base_model/quantise", "auto") or 1
    found["/training/batch_size"] = Advice(batch, reason % values)
    found["/training/gradient_accumulation"] = _accumulation(start.batch, chosen_batch or batch)
    return found


def _accumulation(wanted: int, batch: int) -> Advice:
    if batch >= wanted:
        return Advice(1)
    reason = _("Several small batches make one step, with the effect of a batch of %(n)s.") % {"n": wanted}
    return Advice(max(1, wanted // batch), reason)


def _length(base: Base, start: Start, pictures: Pictures, batch: int) -> dict[str, Advice]:
    """Give steps and learning rate for an effective batch of `batch`."""
    n = max(1, pictures.count)
    if base.is_demo:
        steps, reason = (
            start.steps,
            _("After about a hundred steps this small model has learned what it can."),
        )
    else:
        # A hundred views of each picture for a small set; large sets need fewer each.
        views = start.steps * start.batch
        wanted = min(views, max(views // 2, 100 * n)) if n <= 30 else max(views, 10 * n)
        steps = max(50, _round(wanted / batch, 50))
        reason = _("%(n)s pictures: each is seen about %(views)s times at this batch size.") % {
            "n": n,
            "views": max(1, round(steps * batch / n)),
        }
    rate = start.learning_rate * math.sqrt(max(1.0, batch / start.batch))
    rate = float(f"{rate:.1e}")
    rate_reason = (
        _("A small model takes large steps; ten times more than for a full-size one.")
        if base.is_demo
        else _("The usual rate for this base model, raised a little because the batch is larger.")
        if batch > start.batch
        else _("The usual rate for this base model and template.")
    )
    return {
        "/training/steps": Advice(steps, reason),
        "/training/epochs": Advice(None),
        "/training/learning_rate": Advice(rate, rate_reason),
        "/training/schedule": Advice("cosine", _("Small steps at the end polish the details.")),
        "/training/held_out": Advice(
            0.1 if n >= FEWEST_FOR_HELD_OUT else 0.0,
            _("Some pictures are kept aside to measure what was learned.")
            if n >= FEWEST_FOR_HELD_OUT
            else _("Every picture is needed for training in a set this small."),
        ),
    }


def _optimizer(optimizer: Any, rate: float) -> dict[str, Advice]:
    """Give what a chosen optimizer wants instead of AdamW's learning rate and schedule."""
    if optimizer == "prodigy":
        reason = _("Prodigy finds the learning rate itself; this multiplies what it found.")
        return {"/training/learning_rate": Advice(1.0, reason)}
    if optimizer == "lion":
        reason = _("Lion steps by the full rate everywhere: a fifth of the usual one.")
        return {"/training/learning_rate": Advice(float(f"{rate / 5:.1e}"), reason)}
    if optimizer == "schedule-free":
        reason = _("Averaging its own steps takes the place of a falling rate.")
        return {"/training/schedule": Advice("constant", reason)}
    return {}


def _loss(base: Base, family: Family, template: Template, pictures: Pictures) -> dict[str, Advice]:
    can_flip = template.key == TemplateKey.STYLE and not base.is_demo
    advice = {
        "/training/flip": Advice(
            can_flip,
            _("A style looks the same in a mirror, and the set counts double.")
            if can_flip
            else _("Off: faces, logos and text must not be mirrored."),
        ),
        "/training/caption_dropout": Advice(
            0.1 if template.key == TemplateKey.STYLE else 0.05,
            _("Now and then without the caption, so that the look does not depend on single words."),
        ),
    }
    if not family.is_flow and not base.is_demo:
        advice["/training/min_snr_gamma"] = Advice(5.0, _("Balances fine and coarse noise; learns faster."))
        if template.key == TemplateKey.STYLE:
            advice["/training/noise_offset"] = Advice(0.05, _("Lets the style be darker or brighter."))
    return advice


def _captions(base: Base, template: Template, pictures: Pictures) -> dict[str, Advice]:
    # Always with the trigger word: the engine leaves it out where a caption has it as a word of its own.
    if template.key == TemplateKey.STYLE:
        joined = Advice("{caption}, {trigger}", _("First what is in the picture, then how it is drawn."))
    else:
        joined = Advice("{trigger}, {caption}", _("The first words count most, so the trigger word leads."))
    return {
        "/captions/template": joined,
        "/captions/shuffle_tags": Advice(
            pictures.tag_captions,
            _("Your captions are tags: a new order each time keeps any of them from standing for the whole.")
            if pictures.tag_captions
            else _("Your captions are sentences, and a sentence has an order."),
        ),
    }


def _cadence(base: Base, family: Family, template: Template, steps: int) -> dict[str, Advice]:
    every = max(1, math.ceil(steps / SAMPLE_ROUNDS))
    return {
        "/training/warmup_steps": Advice(
            min(100, steps // 10), _("A tenth of the run: the first steps are the most violent.")
        ),
        "/sampling/prompts": Advice(
            default_prompts(base, template), _("Fixed prompts and seeds, so that progress can be compared.")
        ),
        "/sampling/every_epochs": Advice(None),
        "/sampling/every_steps": Advice(every, _("Five times in the run.")),
        "/sampling/steps": Advice(family.sample_steps),
        "/sampling/guidance": Advice(
            2.5 if base.is_demo else family.guidance, _("What this base model draws best with.")
        ),
        "/checkpoint/every_epochs": Advice(None),
        "/checkpoint/every_steps": Advice(every, _("One file to download with each row of samples.")),
    }


def default_prompts(base: Base, template: Template) -> list[str]:
    """Return the prompts to draw with: those the base model knows, else the template's."""
    offered = [with_trigger(prompt) for prompt in base.prompts[:SAMPLE_PROMPTS]]
    return offered or list(template.prompts)


def common_phrase(captions: Sequence[str]) -> str:
    """Return the words that most captions begin or end with, set off by a comma; "" if there are none."""
    parts = [[part.strip() for part in caption.split(",")] for caption in captions if "," in caption]
    if not parts or len(parts) * 2 < len(captions):
        return ""
    for place in (-1, 0):
        phrase, times = Counter(each[place] for each in parts).most_common(1)[0]
        if phrase and len(phrase) <= 40 and times * 10 >= len(captions) * 8:
            return phrase
    return ""


def with_trigger(prompt: str) -> str:
    """Return `prompt` with a place for the trigger word."""
    return prompt if "{trigger}" in prompt else f"{prompt}, {{trigger}}"


def _round(value: float, to: int) -> int:
    return int(round(value / to) * to)
