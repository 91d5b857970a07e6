"""Read the weights of a base model tensor by tensor, so that no more than one of them is in memory."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from training.engine.errors import ConfigurationError, DataError

PREFIX = "text_model."
"""CLIP's weights are named with it or without, by the version of transformers that wrote them."""


class ComponentWeights:
    """Read one component's folder, e.g. ``unet``; of a folder with variants the one that has no name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def files(self) -> dict[str, Path]:
        """Return which file holds each tensor; raise ConfigurationError if there are no safetensors."""
        paths = sorted(self.folder.glob("*.safetensors"))
        plain = [path for path in paths if len(path.name.split(".")) == 2]
        found = {}
        for path in plain or paths:
            for key in keys_of(path):
                found[key] = path
        if not found:
            raise ConfigurationError(
                "base_model_incomplete", f"{self.folder} holds no .safetensors file",
                hint="Save the model again with safe_serialization=True.",
            )  # fmt: skip
        return found

    def names(self) -> Iterator[str]:
        """Yield the names of all tensors."""
        yield from self.files

    def key(self, module: str) -> str:
        """Return the name of a layer's weight; raise DataError if there is none."""
        found = weight_key(module, self.files)
        if found is None:
            raise DataError("base_model_weights", f"{self.folder} has no weight of {module!r}")
        return found

    def tensor(self, key: str) -> Tensor:
        """Read one tensor, in its own number format."""
        with safe_open(self.files[key], "pt") as file:
            found: Tensor = file.get_tensor(key)
        return found

    def weight(self, module: str) -> Tensor:
        """Read the weight of a layer, in its own number format."""
        return self.tensor(self.key(module))


def weight_key(module: str, names: dict[str, Path] | list[str]) -> str | None:
    """Return the name that a layer's weight has among others."""
    bare = module.removeprefix(PREFIX)
    return next((key for name in (module, PREFIX + bare, bare) if (key := f"{name}.weight") in names), None)


def keys_of(path: Path) -> list[str]:
    """Return the names in one file; raise DataError if it is damaged."""
    try:
        with safe_open(path, "pt") as file:
            return list(file.keys())
    except (OSError, SafetensorError) as error:
        raise DataError("base_model_damaged", f"{path} cannot be read: {error}") from error
