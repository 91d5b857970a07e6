"""Pictures of a class that the base model draws itself, so that training does not change how it draws the class.

They are drawn before training with fixed seeds, and kept by all that decides what they show: runs on the same base
model with the same class prompt share them.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from training.engine import foundation
from training.engine.data.cache import content_key
from training.engine.data.identity import ModelIdentity
from training.engine.data.manifest import Item, file_sha256, read_regularisation
from training.engine.data.pictures import reading
from training.engine.device import free_memory
from training.engine.errors import DataError
from training.engine.events import Event, EventSink, Phase
from training.engine.families.sources import base_folder
from training.engine.generate import Generator
from training.engine.generation import GenerationSpec, picture_path
from training.engine.memory_plan import before_loading, choose
from training.engine.probe import count_weights, free_bytes

if TYPE_CHECKING:
    from training.engine.api import LoRATrainer
    from training.engine.families.base import Parts

PHASE = "class_pictures"
VERSION = 2
"""Of how pictures are drawn: those of another one are drawn anew."""


class _Phases:
    """Pass on how far the drawing is; pictures of a class are no samples, and no run ends with them."""

    def __init__(self, sink: EventSink) -> None:
        self._sink = sink

    def emit(self, event: Event) -> None:
        if isinstance(event, Phase):
            self._sink.emit(event)


def class_pictures(trainer: LoRATrainer) -> list[Item]:
    """Return pictures that the base model drew, as many as a recipe's own regularisation pictures lack.

    Draw those that no run drew before. Raise Interrupted, and what loading the base model raises.
    """
    spec, base, cache = trainer.spec, trainer.given_base, trainer.cache_dir
    lacking = spec.prior.count - len(read_regularisation(spec.regularisation, spec.dataset))
    if lacking <= 0:
        return []
    order = _order(trainer, lacking)
    source = base.folder if base else base_folder(trainer.family, spec.base_model, cache)
    model = ModelIdentity(cache / "identity.json").sha256([source]) if source else "unsaved"
    quantised = () if spec.base_model.quantise == "none" else (spec.base_model.quantise,)
    folder = cache / "class" / content_key(VERSION, model, _look(order), *quantised)
    paths = [picture_path(folder, index) for index in range(lacking)]
    drawn = [index for index, path in enumerate(paths) if _is_whole(path)]
    if len(drawn) < lacking:
        Generator(
            order, run_dir=folder, sink=_Phases(trainer.sink), control=trainer.control, device=trainer.device,
            base=base or _small_base(trainer), drawn=drawn, phase=PHASE,
        ).run()  # fmt: skip
        free_memory(trainer.device)
    return [Item(path, file_sha256(path), spec.prior.prompt) for path in paths]


def _small_base(trainer: LoRATrainer) -> Parts | None:
    """Return the base model made smaller as the run will have it; None if the recipe leaves it whole."""
    wished = foundation.wishes(trainer)
    if (tuple(wished.quantise), tuple(wished.offload)) == (("none",), ("off",)):
        return None
    parts = foundation.load(trainer)
    demand = before_loading(count_weights(parts.denoiser))
    foundation.settle(parts.denoiser, choose(free_bytes(trainer.device), demand, wished), trainer.device)
    foundation.lend(parts, trainer.device)
    return parts


def _order(trainer: LoRATrainer, count: int) -> GenerationSpec:
    spec, family = trainer.spec, trainer.family
    edge = spec.training.resolution // family.divisor * family.divisor
    return GenerationSpec(
        base_model=spec.base_model, prompts=(spec.prior.prompt,), seed=0, count=count, width=edge, height=edge,
        steps=spec.prior.steps, guidance=spec.prior.guidance or family.guidance_default,
        precision=trainer.precision,
    )  # fmt: skip


def _is_whole(path: Path) -> bool:
    """Tell whether a picture is there and not cut short, as a machine that failed may leave it."""
    try:
        with reading(path), Image.open(path) as image:
            image.verify()
    except DataError:
        return False
    return True


def _look(order: GenerationSpec) -> str:
    """Return what decides how a picture of an order looks, but for its seed and the model."""
    about = dataclasses.asdict(order)
    return repr(
        [about[name] for name in ("prompts", "width", "height", "steps", "guidance", "precision", "seed")]
    )
