"""Find a base model: a diffusers folder, one .safetensors checkpoint, or a repository of the Hugging Face hub.

The last two become a folder once, in a cache, so that everything after this knows folders alone.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.engine.data.manifest import file_sha256
from training.engine.errors import ConfigurationError, first_line
from training.engine.sections import is_hub_name

if TYPE_CHECKING:
    from training.engine.families.base import ModelFamily
    from training.engine.sections import BaseModelSpec


def base_folder(family: ModelFamily, base: BaseModelSpec, cache: Path) -> Path:
    """Return the diffusers folder of a base model, made in ``cache`` if need be; raise ConfigurationError."""
    path = Path(base.path)
    if path.is_dir():
        return path
    if path.is_file():
        return _from_checkpoint(family, path, Path(base.config) if base.config else None, cache)
    if is_hub_name(base.path):
        return _from_hub(family, base.path, cache)
    raise ConfigurationError(
        "base_model_missing", "the folder of the base model was not found",
        hint="Choose another base model, or install this one on the worker.",
    )  # fmt: skip


# -- one file --------------------------------------------------------------------------------------------------------


def _from_checkpoint(family: ModelFamily, file: Path, config: Path | None, cache: Path) -> Path:
    """Turn a checkpoint of the original layout into a diffusers folder, once for each content and configuration."""
    if file.suffix != ".safetensors":
        raise ConfigurationError(
            "pickle_refused", f"{file.name} is not a .safetensors file; pickled weights are never loaded",
            hint="Convert the model to safetensors, or give its diffusers folder.",
        )  # fmt: skip
    _require_whole(file)
    digest = file_sha256(file)[:24]
    told = f"-{_config_digest(config)}" if config else ""
    folder = cache / "bases" / f"{family.name}-{digest}{told}"
    if (folder / "model_index.json").exists():
        return folder
    aside = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        _converted(family, file, config).save_pretrained(aside)
        if not (folder / "model_index.json").exists():
            aside.replace(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def _require_whole(file: Path) -> None:
    """Raise ConfigurationError for what is no safetensors file, before any of it is asked what it is."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt"):
            return
    except (OSError, SafetensorError) as error:
        raise ConfigurationError(
            "single_file_unreadable", f"{file.name} is not a whole safetensors file: {error}",
            hint="Download it again, or give the model's diffusers folder.",
        ) from error  # fmt: skip


def _config_digest(config: Path) -> str:
    index = config / "model_index.json"
    if not index.is_file():
        raise ConfigurationError(
            "base_model_config", "the folder with the configuration of the base model has no model_index.json",
            hint="Give a diffusers folder of the same architecture; its weights are not needed.",
        )  # fmt: skip
    return file_sha256(index)[:12]


def _converted(family: ModelFamily, file: Path, config: Path | None) -> Any:
    import diffusers
    from diffusers.loaders.single_file_utils import SingleFileComponentError

    pipeline = getattr(diffusers, family.pipelines[0])
    if not hasattr(pipeline, "from_single_file"):
        raise ConfigurationError(
            "single_file_unsupported", f"{family.title} cannot be loaded from one file",
            hint="Give the folder of the model in diffusers layout.",
        )  # fmt: skip
    offline: dict[str, Any] = {"config": str(config), "local_files_only": True} if config else {}
    options = {"safety_checker": None} if family.pipelines[0] == "StableDiffusionPipeline" else {}
    try:
        return pipeline.from_single_file(str(file), **offline, **options)
    except OSError as error:
        if config:
            raise
        raise ConfigurationError(
            "single_file_config", f"{file.name} does not say how its model is built, and the hub cannot be asked",
            hint="Name a diffusers folder of the same architecture as its configuration; its weights are not needed.",
        ) from error  # fmt: skip
    except (SingleFileComponentError, ValueError, KeyError, RuntimeError) as error:
        raise ConfigurationError(
            "single_file_unreadable", f"{file.name} is not a whole checkpoint of {family.title}: {first_line(error)}",
            hint="Choose the family of this checkpoint, or give its diffusers folder.",
        ) from error  # fmt: skip


# -- the hub -----------------------------------------------------------------------------------------------------------


def _from_hub(family: ModelFamily, name: str, cache: Path) -> Path:
    """Fetch what the family needs of a repository, safetensors only; nothing is fetched again that is here."""
    from huggingface_hub import constants, errors, snapshot_download

    repository, _, revision = name.partition("@")
    wanted = [f"{part}/*" for part in (*family.components, "scheduler")]
    try:
        return Path(snapshot_download(
            repository, revision=revision or None, cache_dir=cache / "hub",
            allow_patterns=["model_index.json", *wanted], ignore_patterns=["*.bin", "*.msgpack", "*.onnx*", "*.ckpt"],
            endpoint=os.environ.get("HF_ENDPOINT"), local_files_only=constants.is_offline_mode(),
        ))  # fmt: skip
    except errors.GatedRepoError as error:
        raise ConfigurationError(
            "base_model_gated", f"{repository} may be fetched only by those who accepted its licence",
            hint=f"Accept the licence at huggingface.co/{repository}, and give a token of that account in HF_TOKEN.",
        ) from error  # fmt: skip
    except errors.RevisionNotFoundError as error:
        raise ConfigurationError(
            "base_model_not_found", f"{repository} has no revision {revision!r}",
            hint="Leave the revision out, or look up its name on the repository's page.",
        ) from error  # fmt: skip
    except errors.RepositoryNotFoundError as error:
        raise ConfigurationError(
            "base_model_not_found", f"the hub has no repository {repository!r}, or hides it",
            hint="Check the spelling; for a private repository give a token in HF_TOKEN.",
        ) from error  # fmt: skip
    except (errors.LocalEntryNotFoundError, OSError) as error:
        raise ConfigurationError(
            "hub_unreachable", f"{repository} is not in the cache, and the hub cannot be reached",
            hint="Connect the worker to the network, or copy the model's folder to it and name that.",
        ) from error  # fmt: skip
