"""Read and write base models in diffusers layout: a folder for each component, and ``model_index.json``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from torch import nn

from training.engine.errors import ConfigurationError

LIBRARIES: dict[str, Any] = {"diffusers": diffusers, "transformers": transformers}
LAYOUT_HINT = "Give the folder of a model in diffusers layout (model_index.json inside)."


def read_index(folder: Path) -> dict[str, Any]:
    """Return ``model_index.json``; raise ConfigurationError where there is none or it cannot be read."""
    try:
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigurationError(
            "base_model_incomplete", "the base model has no model_index.json", hint=LAYOUT_HINT
        ) from None
    except ValueError as error:
        raise ConfigurationError(
            "base_model_config", "model_index.json of the base model is not valid JSON", hint=LAYOUT_HINT
        ) from error
    if not isinstance(index, dict):
        raise ConfigurationError(
            "base_model_config", "model_index.json of the base model names no components", hint=LAYOUT_HINT
        )
    return index


def has(index: dict[str, Any], name: str) -> bool:
    """Tell whether an index names a component at all; diffusers writes [null, null] for one that was left out."""
    return bool((index.get(name) or [None])[0])


def require_components(folder: Path, names: Iterable[str]) -> None:
    """Raise ConfigurationError naming the first component whose folder is missing."""
    for name in names:
        if not (folder / name).is_dir():
            raise ConfigurationError(
                "base_model_incomplete", f"the base model has no {name!r} folder", hint=LAYOUT_HINT
            )


def component_class(index: dict[str, Any], name: str) -> Any:
    """Return the class of a component, from diffusers or transformers alone; raise ConfigurationError otherwise."""
    library, class_name = (index.get(name) or [None, None])[:2]
    if name.startswith("tokenizer") and str(class_name).endswith("Processor"):
        # One of text and pictures (Pixtral's of FLUX.2): only its tokenizer is used, the rest needs torchvision.
        return transformers.AutoTokenizer
    found = getattr(LIBRARIES.get(library or ""), str(class_name), None)
    if not isinstance(found, type) or not hasattr(found, "from_pretrained"):
        raise ConfigurationError(
            "base_model_config", f"the base model's {name!r} is a {class_name!r}, which is not known here",
            hint="Install the base model again in diffusers layout, or update the worker.",
        )  # fmt: skip
    return found


def load_component(cls: Any, folder: Path, dtype: torch.dtype) -> Any:
    """Load one component, safetensors only; its fp16 variant where it was saved with ``variant="fp16"`` alone."""
    if not issubclass(cls, nn.Module):
        return cls.from_pretrained(folder, local_files_only=True)
    files = [path.name for path in folder.glob("*.safetensors")]
    variant = "fp16" if files and all(".fp16" in name for name in files) else None
    # What keeps some of its layers in fp32 can only be loaded the other way.
    whole = issubclass(cls, diffusers.ModelMixin) and not cls._keep_in_fp32_modules
    options = {"low_cpu_mem_usage": False} if whole else {}
    return cls.from_pretrained(
        folder, dtype=dtype, variant=variant, local_files_only=True, use_safetensors=True, **options
    )


def read_scheduler(folder: Path) -> dict[str, Any]:
    """Return the scheduler's config."""
    config: dict[str, Any] = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    return config


def settings_of(index: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an index says besides its components: the pipeline's class and its own plain values."""
    return {
        name: value for name, value in index.items()
        if name == "_class_name" or not (name.startswith("_") or _is_component(value))
    }  # fmt: skip


def _is_component(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(v, str | None) for v in value)


def save_components(
    components: dict[str, Any], scheduler: dict[str, Any], pipeline: str, folder: Path,
    settings: Mapping[str, Any],
) -> None:  # fmt: skip
    """Write components, the scheduler's config and the index; ``settings`` may name another pipeline.

    A component that is None is one left out.
    """
    index: dict[str, Any] = {"_class_name": pipeline, "_diffusers_version": diffusers.__version__, **settings}
    for name, component in components.items():
        if component is None:
            index[name] = [None, None]
            continue
        component.save_pretrained(folder / name)
        library = type(component).__module__.partition(".")[0]
        index[name] = [library, type(component).__name__]
    getattr(diffusers, scheduler["_class_name"]).from_config(scheduler).save_pretrained(folder / "scheduler")
    index["scheduler"] = ["diffusers", scheduler["_class_name"]]
    if pipeline == "StableDiffusionPipeline":
        index |= {
            "safety_checker": [None, None],
            "feature_extractor": [None, None],
            "requires_safety_checker": False,
        }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2))
