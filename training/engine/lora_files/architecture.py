"""Build the layers that a LoRA file names, without memory for their weights."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from torch import nn

from training.engine.errors import ConfigurationError
from training.engine.export.table import ExportTable, same_path
from training.engine.families import folder as folders
from training.engine.families.base import DENOISER, ModelFamily
from training.engine.lora_files.base_weights import ComponentWeights
from training.engine.lora_files.reading import LoraFile
from training.engine.methods.changes import Change, LowRank
from training.engine.registry import family_of_pipeline, load_family

CLIP = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
OPEN_CLIP = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 23,
    "num_attention_heads": 16,
}
BIG_CLIP = {
    "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20,
    "projection_dim": 1280,
}  # fmt: skip
SDXL_UNET = {
    "block_out_channels": (320, 640, 1280), "transformer_layers_per_block": (1, 2, 10),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": (5, 10, 20), "cross_attention_dim": 2048, "use_linear_projection": True,
    "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}  # fmt: skip
PUBLISHED: Mapping[str, tuple[Mapping[str, tuple[str, Mapping[str, Any]]], ...]] = {
    "sd": (
        {DENOISER: ("UNet2DConditionModel", {"cross_attention_dim": 768}), "text_encoder": ("CLIPTextModel", CLIP)},
        {
            DENOISER: ("UNet2DConditionModel", {
                "cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20), "use_linear_projection": True,
            }),
            "text_encoder": ("CLIPTextModel", OPEN_CLIP),
        },
    ),
    "sdxl": (
        {
            DENOISER: ("UNet2DConditionModel", SDXL_UNET), "text_encoder": ("CLIPTextModel", CLIP),
            "text_encoder_2": ("CLIPTextModelWithProjection", BIG_CLIP),
        },
    ),
    "flux": ({DENOISER: ("FluxTransformer2DModel", {"guidance_embeds": True})},),
}  # fmt: skip
"""Published configurations, as far as shapes depend on them, of families whose models are all of the same size."""


@dataclasses.dataclass(frozen=True)
class Architecture:
    """Be the adaptable parts of a model of a family, on the meta device.

    ``folder`` is the base model they were read from; ``is_whole`` tells whether all layers are there, or only those of
    one file.
    """

    family: ModelFamily
    parts: Mapping[str, nn.Module]
    folder: Path | None = None
    is_whole: bool = True

    def layer(self, part: str, module: str) -> nn.Module:
        """Return a layer by its names."""
        return self.parts[part].get_submodule(module)

    def component(self, part: str) -> str:
        """Return the name of a part's folder in a base model."""
        return self.family.denoiser if part == DENOISER else part

    def require_one_denoiser(self) -> None:
        """Raise ConfigurationError for a base model of several: a LoRA file does not say whose it is."""
        others = [name for name in self.family.waiting if self.folder and (self.folder / name).is_dir()]
        if others:
            raise ConfigurationError(
                "several_denoisers", f"{self.folder} has a second denoiser, {others[0]!r}, with LoRA files of its own",
                hint="Bake and extract work on models of one denoiser.",
            )  # fmt: skip

    @cached_property
    def weights(self) -> Mapping[str, ComponentWeights]:
        """Return the weights of each part, read when they are asked for; raise ConfigurationError without a base."""
        if self.folder is None:
            raise ConfigurationError(
                "base_model_needed", "what a DoRA does depends on the weights it was trained on",
                hint="Give its base model with --base FOLDER.",
            )  # fmt: skip
        return {part: ComponentWeights(self.folder / self.component(part)) for part in self.parts}


def of_base(folder: Path, wanted: str | None = None) -> Architecture:
    """Build what a base model's configs describe; raise ConfigurationError for what is not one, or another family."""
    if not folder.is_dir():
        raise ConfigurationError(
            "base_model_missing", f"there is no folder {folder}", hint=folders.LAYOUT_HINT
        )
    index = folders.read_index(folder)
    name = family_of_pipeline(str(index.get("_class_name")))
    if name is None or (wanted is not None and wanted != name):
        raise ConfigurationError(
            "wrong_family", f"{folder} holds a {index.get('_class_name')}, of the family {name or 'unknown'}",
            hint="`lora-train families` lists the families." if name is None else f"Leave out --family, or use {name}.",
        )  # fmt: skip
    family = load_family(name)
    encoders = [name for name in family.trainable_encoders if folders.has(index, name)]
    folders.require_components(folder, [family.denoiser, *encoders])
    parts = {
        DENOISER: _from_config(folders.component_class(index, family.denoiser), folder / family.denoiser)
    }
    for encoder in encoders:
        parts[encoder] = _from_config(folders.component_class(index, encoder), folder / encoder)
    return Architecture(family, parts, folder)


def _from_config(cls: Any, folder: Path) -> nn.Module:
    with torch.device("meta"):
        if issubclass(cls, diffusers.ModelMixin):
            return _module(cls.from_config(cls.load_config(folder, local_files_only=True)))
        return _module(cls(cls.config_class.from_pretrained(folder, local_files_only=True)))


def _module(built: nn.Module) -> nn.Module:
    return built


def candidates(family: ModelFamily, table: ExportTable, file: LoraFile) -> Iterator[Architecture]:
    """Yield what a file of the family can be about where no base model is given: its own names, published models."""
    if (table.layout == "peft" or table.place is same_path) and family.name not in PUBLISHED:
        yield Architecture(family, _of_names(family, table, file.changes), is_whole=False)
    for published in PUBLISHED.get(family.name, ()):
        used = [
            part for part, prefix in table.prefixes.items() if any(s.startswith(prefix) for s in file.changes)
        ]
        parts = {part: _published(*published[part]) for part in used if part in published}
        yield Architecture(family, parts)


def _published(name: str, settings: Mapping[str, Any]) -> nn.Module:
    with torch.device("meta"):
        if hasattr(diffusers, name):
            return _module(getattr(diffusers, name)(**settings))
        cls: Any = getattr(transformers, name)
        return _module(cls(cls.config_class(**settings)))


def _of_names(family: ModelFamily, table: ExportTable, changes: Mapping[str, Change]) -> dict[str, nn.Module]:
    """Make a tree of the layers that the stems ``<prefix>.<path>`` name, as far as the family has such layers."""
    tiny = family.tiny().adaptable
    parts: dict[str, nn.Module] = {}
    for part, prefix in table.prefixes.items():
        known = {_kind(name) for name, _ in tiny[part].named_modules()}
        for stem, change in changes.items():
            path = stem.removeprefix(prefix + ".")
            if path != stem and _kind(path) in known:
                _plant(parts.setdefault(part, nn.Module()), path.split("."), _layer(change))
    return parts


def _kind(path: str) -> str:
    """Return a path with all numbers alike: a model of another size has more layers of the same kinds."""
    return re.sub(r"\d+", "#", path)


def _plant(root: nn.Module, names: Iterable[str], layer: nn.Module) -> None:
    *path, last = names
    for name in path:
        below = dict(root.named_children()).get(name)
        if below is None:
            below = nn.Module()
            root.add_module(name, below)
        root = below
    root.add_module(last, layer)


def _layer(change: Change) -> nn.Module:
    rows, columns = change.size
    if isinstance(change, LowRank) and change.down.ndim == 4:
        kernel = (change.down.shape[2], change.down.shape[3])
        return nn.Conv2d(change.down.shape[1], rows, kernel, bias=False, device="meta")
    return nn.Linear(columns, rows, bias=False, device="meta")
