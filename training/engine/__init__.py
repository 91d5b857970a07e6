"""Train LoRAs: the library under the web platform and under ``lora-train``.

Nothing here knows of Django. ``spec``, ``sections``, ``fields``, ``events``, ``estimate``, ``hints``, ``registry``,
``schedule`` and ``errors`` import without torch, so that a web process may use them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from training.engine.api import LoRATrainer
    from training.engine.spec import RunSpec

ENGINE_VERSION = "0.1.0"

__all__ = ["ENGINE_VERSION", "LoRATrainer", "RunSpec"]


def __getattr__(name: str) -> object:
    """Load the two public classes on first use, so that ``import training.engine`` costs nothing."""
    if name == "LoRATrainer":
        from training.engine.api import LoRATrainer

        return LoRATrainer
    if name == "RunSpec":
        from training.engine.spec import RunSpec

        return RunSpec
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
