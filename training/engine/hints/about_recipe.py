# ruff: noqa: E501 - a table reads better with its sentences whole
"""What is likely to disappoint in a recipe, on the device and for the pictures it is meant for."""

from __future__ import annotations

import dataclasses
import math
import re

from training.engine.estimate import largest_batch
from training.engine.fields import gettext_noop as _
from training.engine.footprint import adapter_weights
from training.engine.hints.facts import EPS_FAMILIES, Condition, Found, SetFacts
from training.engine.hints.hint import Patch
from training.engine.profiles import MODELS, profile_of
from training.engine.spec import RunSpec

DISTILLED = re.compile(r"turbo|schnell|lightning|hyper|\blcm\b|distill|klein", re.IGNORECASE)
"""Names of base models that draw in a few steps; "base" in a name says that it is the model before distillation."""

# -- memory and disk -----------------------------------------------------------------------------------------------


def _does_not_fit(spec: RunSpec, facts: SetFacts) -> Found | None:
    if facts.device is None:
        return None
    batch, gb = spec.training.batch_size, round(facts.device.memory_mb / 1000)
    fitting = largest_batch(spec, facts.device)
    if fitting >= batch or fitting == 0:
        return None
    return Found({"batch": batch, "gb": gb, "fitting": fitting}, {"/training/batch_size": fitting})


def _fits_not_at_all(spec: RunSpec, facts: SetFacts) -> Found | None:
    if facts.device is None or largest_batch(spec, facts.device, most=1):
        return None
    # What the engine may still choose itself, were it allowed to.
    patch: Patch = {"/training/batch_size": 1, "/training/gradient_checkpointing": "auto"}
    patch |= {"/base_model/quantise": "auto", "/training/offload": "auto"}
    training = dataclasses.replace(spec.training, gradient_checkpointing="auto", offload="auto")
    base = dataclasses.replace(spec.base_model, quantise="auto")
    saving = dataclasses.replace(spec, training=training, base_model=base)
    helps = largest_batch(saving, facts.device, most=1)
    return Found({"gb": round(facts.device.memory_mb / 1000)}, patch if helps else None)


def _disk_short(spec: RunSpec, facts: SetFacts) -> Found | None:
    if facts.disk_free_mb is None:
        return None
    # A checkpoint holds each trained weight and AdamW's two moments in fp32, and one more is written before one goes.
    weights = adapter_weights(profile_of(spec.base_model.family), spec.method.rank, spec.method.targets)
    need = math.ceil((spec.checkpoint.keep + 1) * weights * 12 / 2**20)
    return Found({"need": need, "free": facts.disk_free_mb}) if need > facts.disk_free_mb else None


# -- the recipe ----------------------------------------------------------------------------------------------------


def _finds_its_rate(spec: RunSpec) -> bool:
    return spec.training.optimizer == "prodigy"


def _rate_high(spec: RunSpec, facts: SetFacts) -> Found | None:
    most = 1e-3 if spec.base_model.family in EPS_FAMILIES else 8e-4
    if spec.training.optimizer == "lion":
        most /= 3
    rate = spec.training.learning_rate
    if rate <= most or _finds_its_rate(spec):
        return None
    return Found({"rate": f"{rate:g}"}, {"/training/learning_rate": most / 10})


def _rate_low(spec: RunSpec, facts: SetFacts) -> Found | None:
    rate = spec.training.learning_rate
    if rate >= 3e-6 or _finds_its_rate(spec):
        return None
    return Found({"rate": f"{rate:g}"}, {"/training/learning_rate": 1e-4})


def _strength(spec: RunSpec) -> float:
    """Return how much stronger the adapter acts than with alpha = rank."""
    rank = spec.method.rank
    return spec.method.true_alpha / (math.sqrt(rank) if spec.method.type == "rslora" else rank)


def _usual_alpha(spec: RunSpec) -> float:
    rank = spec.method.rank
    return round(math.sqrt(rank), 2) if spec.method.type == "rslora" else float(rank)


def _alpha_high(spec: RunSpec, facts: SetFacts) -> Found | None:
    strength = _strength(spec)
    if strength <= 4:
        return None
    return Found({"strength": f"{strength:.3g}"}, {"/method/alpha": _usual_alpha(spec)})


def _alpha_low(spec: RunSpec, facts: SetFacts) -> Found | None:
    strength = _strength(spec)
    if _finds_its_rate(spec) or _rate_low(spec, facts) or strength * spec.training.learning_rate >= 3e-6:
        return None
    return Found({"strength": f"{strength:.3g}"}, {"/method/alpha": _usual_alpha(spec)})


def _rank_large(spec: RunSpec, facts: SetFacts) -> Found | None:
    rank = spec.method.rank
    if rank <= 64 or facts.pictures >= 50:
        return None
    return Found({"rank": rank, "pictures": facts.pictures}, {"/method/rank": 16})


def _views(spec: RunSpec, facts: SetFacts) -> tuple[float, int]:
    """Return how often each picture is seen, and the steps of the run."""
    own = facts.pictures * spec.dataset.repeats * len(spec.training.sizes)
    every = spec.samples(facts.pictures)
    steps = spec.plan(facts.buckets.values() or [every]).total_steps
    samples = spec.training.batch_size * spec.training.gradient_accumulation * steps
    return samples * own / max(1, every * facts.pictures), steps


def _usual_steps(spec: RunSpec, facts: SetFacts) -> int:
    """Return 100 views of each picture, from 1000 to 3000 samples, in steps of this batch."""
    samples = min(3000, max(1000, 100 * facts.pictures))
    return max(1, round(samples / (spec.training.batch_size * spec.training.gradient_accumulation)))


def _too_few_steps(spec: RunSpec, facts: SetFacts) -> Found | None:
    views, steps = _views(spec, facts)
    if views >= 10 and steps >= 50:
        return None
    wanted = _usual_steps(spec, facts)
    if wanted <= steps:
        return None
    return Found(
        {"steps": steps, "views": round(views)}, {"/training/steps": wanted, "/training/epochs": None}
    )


def _too_many_steps(spec: RunSpec, facts: SetFacts) -> Found | None:
    views, steps = _views(spec, facts)
    if views <= 600:
        return None
    wanted = _usual_steps(spec, facts)
    return Found(
        {"steps": steps, "views": round(views)}, {"/training/steps": wanted, "/training/epochs": None}
    )


def _warmup_long(spec: RunSpec, facts: SetFacts) -> Found | None:
    _views_each, steps = _views(spec, facts)
    if spec.training.warmup_steps * 2 <= steps:
        return None
    patch: Patch = {"/training/warmup_steps": round(steps / 20)}
    return Found({"warmup": spec.training.warmup_steps, "steps": steps}, patch)


def _below_native(spec: RunSpec, facts: SetFacts) -> Found | None:
    family, side = spec.base_model.family, spec.training.resolution
    # Many small models have the architecture of Stable Diffusion, so its resolution says nothing.
    if family not in MODELS or family == "sd":
        return None
    native = MODELS[family].resolution
    if side >= (0.6 if family in EPS_FAMILIES else 0.4) * native:
        return None
    return Found({"side": side, "native": native}, {"/training/resolution": native})


def _above_native(spec: RunSpec, facts: SetFacts) -> Found | None:
    native = MODELS[spec.base_model.family].resolution if spec.base_model.family in MODELS else 0
    side = spec.training.resolution
    if not native or side <= 1.5 * native:
        return None
    return Found({"side": side, "native": native}, {"/training/resolution": native})


def _unfit_resolution(spec: RunSpec, facts: SetFacts) -> Found | None:
    side, divisor = spec.training.resolution, facts.divisor
    if side % divisor == 0:
        return None
    nearest = max(divisor, round(side / divisor) * divisor)
    return Found({"side": side, "divisor": divisor}, {"/training/resolution": nearest})


def _snr_of_flow(spec: RunSpec, facts: SetFacts) -> Found | None:
    unfit = spec.training.min_snr_gamma is not None and _is_flow(spec)
    return Found({}, {"/training/min_snr_gamma": None}) if unfit else None


def _is_flow(spec: RunSpec) -> bool:
    return spec.base_model.family in MODELS and spec.base_model.family not in EPS_FAMILIES


def _weighting_unfit(spec: RunSpec, facts: SetFacts) -> Found | None:
    kind = spec.training.loss_weighting
    unfit = ("debiased",) if _is_flow(spec) else ("cosmap", "sigma_sqrt")
    return Found({"kind": kind}, {"/training/loss_weighting": "none"}) if kind in unfit else None


def _offset_of_flow(spec: RunSpec, facts: SetFacts) -> Found | None:
    unused = spec.training.noise_offset > 0 and _is_flow(spec)
    return Found({}, {"/training/noise_offset": 0.0}) if unused else None


def _distilled(spec: RunSpec, facts: SetFacts) -> Found | None:
    base = spec.base_model
    name = facts.base_title or base.path.rstrip("/").rpartition("/")[2]
    by_name = DISTILLED.search(name) is not None and "base" not in name.lower()
    is_distilled = by_name if base.distilled == "auto" else base.distilled == "yes"
    return Found({"name": name}) if is_distilled and base.training_adapter is None else None


def _encoder_rate_high(spec: RunSpec, facts: SetFacts) -> Found | None:
    rate = spec.training.text_encoder_learning_rate
    if not spec.method.text_encoder or rate is None or rate <= spec.training.learning_rate:
        return None
    return Found({}, {"/training/text_encoder_learning_rate": spec.training.learning_rate / 2})


def _never_saved(spec: RunSpec, facts: SetFacts) -> Found | None:
    every, (_views_each, steps) = spec.checkpoint.every_steps, _views(spec, facts)
    if every is None or every < steps or spec.checkpoint.every_minutes is not None:
        return None
    return Found({"every": every, "steps": steps}, {"/checkpoint/every_steps": max(1, steps // 10)})


CONDITIONS: tuple[Condition, ...] = (
    Condition("does_not_fit", _("Not even one picture at once fits into {gb} GB with these settings."),
              _("Let the engine choose gradient checkpointing, quantising and offloading, lower the resolution, or choose a worker with more memory."),
              _fits_not_at_all),
    Condition("batch_does_not_fit", _("A batch of {batch} does not fit into {gb} GB; {fitting} fit."),
              _("Lower the batch size; gradient accumulation gives the same effect in less memory."), _does_not_fit),
    Condition("disk_short", _("The checkpoints need {need} MB, and {free} MB are free."),
              _("Free some space, or keep fewer checkpoints."), _disk_short),
    Condition("resolution_not_multiple", _("A resolution of {side} is not a multiple of {divisor}, as this base model needs."),
              _("Choose the nearest multiple."), _unfit_resolution),
    Condition("distilled_base", _("The base model {name} is distilled: it draws in a few steps, and training undoes that."),
              _("Train on the model that it was made from, or with the training adapter published for it."), _distilled),
    Condition("learning_rate_high", _("A learning rate of {rate} destroys most base models."),
              _("1e-4 is usual, for lion a third of it."), _rate_high),
    Condition("learning_rate_low", _("With a learning rate of {rate} the loss stays flat and nothing is learned."),
              _("Begin with 1e-4."), _rate_low),
    Condition("alpha_high", _("With this alpha the LoRA acts {strength} times as strongly as usual, as if the learning rate were so much higher."),
              _("Alpha equal to the rank is usual; for rslora its square root."), _alpha_high),
    Condition("alpha_low", _("With this alpha the LoRA acts {strength} times as strongly as usual, and the learning rate does not make up for it."),
              _("Alpha equal to the rank is usual; for rslora its square root."), _alpha_low),
    Condition("too_few_steps", _("In {steps} steps each picture is seen {views} times, which is too little to be learned."),
              _("Each picture should be seen about 100 times."), _too_few_steps),
    Condition("too_many_steps", _("In {steps} steps each picture is seen {views} times, and would be learned by heart."),
              _("About 100 times are enough; compare the samples on the way and take an earlier file."), _too_many_steps),
    Condition("rank_large", _("A rank of {rank} is large for {pictures} pictures."),
              _("Rank 16 holds a subject or a style, and over-fits later."), _rank_large),
    Condition("resolution_below_base", _("Training at {side} pixels teaches a base model made for {native} to draw small and blurred."),
              _("Train at the base model's own resolution."), _below_native),
    Condition("resolution_above_base", _("Training at {side} pixels a base model made for {native} takes long and doubles what it draws."),
              _("Train at the base model's own resolution."), _above_native),
    Condition("warmup_long", _("The warm-up takes {warmup} of {steps} steps."),
              _("Five in a hundred are enough."), _warmup_long),
    Condition("encoder_rate_high", _("The text encoder learns faster than the rest, and forgets words."),
              _("Give it half of the learning rate or less."), _encoder_rate_high),
    Condition("min_snr_of_flow", _("Min-SNR does not fit a base model that learns a flow; the run will be refused."),
              _("Leave it empty."), _snr_of_flow),
    Condition("weighting_unfit", _("The weight {kind} of noise levels does not fit this base model; the run will be refused."),
              _("debiased is for Stable Diffusion and SDXL, cosmap and sigma_sqrt for flow models."), _weighting_unfit),
    Condition("noise_offset_of_flow", _("Noise offset shifts what a base model that learns a flow expects."),
              _("Set it to 0."), _offset_of_flow),
    Condition("never_saved", _("Checkpoints come every {every} steps, and the run has {steps}: nothing is saved on the way."),
              _("Save about ten times a run."), _never_saved),
)  # fmt: skip
