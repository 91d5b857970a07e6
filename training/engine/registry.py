"""Find families, methods, optimizers, captioners and samplers by name: our own and those of installed plugins.

A plugin registers an entry point in one of the groups ``lora_foundry.families``, ``lora_foundry.methods``,
``lora_foundry.optimizers``, ``lora_foundry.captioners`` and ``lora_foundry.samplers``; ours are known without one, so
that the engine also works from a plain checkout.
"""

from __future__ import annotations

import difflib
from contextlib import suppress
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from training.engine.errors import ConfigurationError

if TYPE_CHECKING:
    from training.engine.captioners.base import Captioner
    from training.engine.families.base import ModelFamily
    from training.engine.methods.base import Method
    from training.engine.optimizers.base import UpdateRule
    from training.engine.samplers import Sampler

FAMILIES = "lora_foundry.families"
METHODS = "lora_foundry.methods"
OPTIMIZERS = "lora_foundry.optimizers"
CAPTIONERS = "lora_foundry.captioners"
SAMPLERS = "lora_foundry.samplers"

BUILT_IN = {
    FAMILIES: {
        "chroma": "training.engine.families.chroma:Chroma",
        "flux": "training.engine.families.flux:Flux",
        "flux2": "training.engine.families.flux2:Flux2",
        "flux2-klein": "training.engine.families.flux2:Flux2Klein",
        "ltx": "training.engine.families.ltx:LTX",
        "lumina2": "training.engine.families.lumina2:Lumina2",
        "pixart": "training.engine.families.pixart:PixArt",
        "qwen-image": "training.engine.families.qwen_image:QwenImage",
        "sana": "training.engine.families.sana:Sana",
        "sd": "training.engine.families.sd:StableDiffusion",
        "sd3": "training.engine.families.sd3:StableDiffusion3",
        "sdxl": "training.engine.families.sdxl:StableDiffusionXL",
        "wan": "training.engine.families.wan:Wan",
        "z-image": "training.engine.families.z_image:ZImage",
    },
    METHODS: {
        "dora": "training.engine.methods.dora:Dora",
        "loha": "training.engine.methods.lycoris:Loha",
        "lokr": "training.engine.methods.lycoris:Lokr",
        "lora": "training.engine.methods.lora:Lora",
        "rslora": "training.engine.methods.lora:RankStabilisedLora",
        "textual_inversion": "training.engine.methods.textual_inversion:TextualInversion",
    },
    OPTIMIZERS: {
        "adafactor": "training.engine.optimizers.adafactor:Adafactor",
        "adamw": "training.engine.optimizers.adamw:AdamW",
        "adamw-8bit": "training.engine.optimizers.adamw_8bit:AdamW8bit",
        "came": "training.engine.optimizers.came:Came",
        "lion": "training.engine.optimizers.lion:Lion",
        "prodigy": "training.engine.optimizers.prodigy:Prodigy",
        "schedule-free": "training.engine.optimizers.schedule_free:ScheduleFree",
    },
    CAPTIONERS: {
        "blip": "training.engine.captioners.blip:Blip",
        "colours": "training.engine.captioners.colours:Colours",
    },
    SAMPLERS: {
        "auto": "training.engine.samplers:Auto",
        "dpm++": "training.engine.samplers:DpmPlusPlus",
        "euler": "training.engine.samplers:Euler",
        "heun": "training.engine.samplers:Heun",
    },
}


@cache
def _entries(group: str) -> dict[str, str]:
    found = dict(BUILT_IN[group])
    entry: EntryPoint
    for entry in entry_points(group=group):
        found[entry.name] = entry.value
    return dict(sorted(found.items()))


def family_names() -> list[str]:
    """List the model families that can be trained."""
    return list(_entries(FAMILIES))


def method_names() -> list[str]:
    """List the training methods."""
    return list(_entries(METHODS))


def optimizer_names() -> list[str]:
    """List the optimizers."""
    return list(_entries(OPTIMIZERS))


def captioner_names() -> list[str]:
    """List the captioners, by name; most need the folder of a model."""
    return list(_entries(CAPTIONERS))


def sampler_names() -> list[str]:
    """List the samplers."""
    return list(_entries(SAMPLERS))


def load_family(name: str) -> ModelFamily:
    """Return the family of that name; raise ConfigurationError naming the nearest one."""
    family: ModelFamily = _find(FAMILIES, name, "model family", "/base_model/family")()
    return family


def family_of_pipeline(pipeline: str) -> str | None:
    """Return the name of the family that trains a diffusers pipeline class, None if there is none."""
    for name in family_names():
        with suppress(ConfigurationError):  # of a broken plugin, which is told where it is wanted
            if pipeline in load_family(name).pipelines:
                return name
    return None


def load_method(name: str) -> Method:
    """Return the method of that name; raise ConfigurationError naming the nearest one."""
    method: Method = _find(METHODS, name, "training method", "/method/type")()
    return method


def load_optimizer(name: str) -> type[UpdateRule]:
    """Return the optimizer of that name, to be made for an adapter's groups; raise ConfigurationError."""
    rule: type[UpdateRule] = _find(OPTIMIZERS, name, "optimizer", "/training/optimizer")
    return rule


def load_captioner(name: str) -> Captioner:
    """Return the captioner of that name; raise ConfigurationError naming the nearest one."""
    captioner: Captioner = _find(CAPTIONERS, name, "captioner", "/captioner")()
    return captioner


def load_sampler(name: str) -> Sampler:
    """Return the sampler of that name; raise ConfigurationError naming the nearest one."""
    sampler: Sampler = _find(SAMPLERS, name, "sampler", "/sampling/sampler")()
    return sampler


def _find(group: str, name: str, what: str, pointer: str) -> Any:
    entries = _entries(group)
    if name not in entries:
        near = difflib.get_close_matches(name, entries, n=1)
        raise ConfigurationError(
            "unknown_" + what.split()[-1],
            f"there is no {what} {name!r}; known: {', '.join(entries)}",
            hint=f"Use {near[0]!r}." if near else None,
            patch={pointer: near[0]} if near else None,
        )
    module, _, attribute = entries[name].partition(":")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise ConfigurationError(
            "plugin_broken", f"the {what} {name!r} cannot be imported from {entries[name]}: {error}",
            hint="Repair or remove the plugin that registers it.",
        ) from error  # fmt: skip
