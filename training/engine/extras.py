"""Optional libraries: which extra brings them, told in a way that a person can act on."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from training.engine.errors import ConfigurationError

EXTRA = "gpu"
"""The extra of this package that brings bitsandbytes and torchao (requirements/gpu.txt)."""


def is_installed(library: str) -> bool:
    """Tell whether a library is there, without importing it."""
    return importlib.util.find_spec(library) is not None


def require(library: str, pointer: str, without: str) -> Any:
    """Import an optional library; raise ConfigurationError that names the extra.

    ``pointer`` is the setting that asked for it, ``without`` a value of it that needs no library.
    """
    try:
        return importlib.import_module(library)
    except ImportError as error:
        raise ConfigurationError(
            "extra_missing", f"{pointer} needs {library}, which is not installed here ({error})",
            hint=f"Install the extra {EXTRA!r} on the worker (requirements/gpu.txt), or choose {without!r}.",
            patch={pointer: without},
        ) from error  # fmt: skip
