"""What a training method must say: which parameters it adds, how they are saved, how they leave as a file."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from torch import Tensor, nn

from training.engine.families.base import ModelFamily, Parts
from training.engine.methods.changes import Change
from training.engine.spec import RunSpec


@dataclasses.dataclass(frozen=True)
class ParameterGroup:
    """Name parameters that share a learning rate."""

    name: str
    parameters: list[tuple[str, nn.Parameter]]
    learning_rate: float


@dataclasses.dataclass(frozen=True)
class WeightDelta:
    """Say how one module of a part is changed; ``layer`` is the base model's own, untouched."""

    part: str
    module: str
    layer: nn.Module
    change: Change


class Adapter(Protocol):
    """Be what a method attached to a model."""

    modules: int
    """How many modules were adapted."""

    def initialise(self, seed: int) -> None:
        """Set the parameters to their fresh values, which change nothing; the same for the same seed."""

    def groups(self) -> list[ParameterGroup]:
        """Return the trainable parameters."""

    def disabled(self) -> AbstractContextManager[None]:
        """Switch the adapter off for a while: the model is then the untouched base."""

    def detach(self) -> None:
        """Take it off the model, which is then as it was before."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return the trained tensors, fp32, by stable names."""

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Put saved tensors back, in place; raise ValueError when names or shapes differ."""

    def deltas(self) -> Iterator[WeightDelta]:
        """Yield how every adapted module is changed, for export and verification."""


class Method(Protocol):
    """Be a way of training, found by name in the registry."""

    name: str

    def changes_text(self, spec: RunSpec) -> bool:
        """Tell whether text encoders are changed, so that prompts cannot be encoded once for all."""

    def check(self, family: ModelFamily, parts: Parts, spec: RunSpec) -> None:
        """Raise the ConfigurationError of ``attach``, where it is one of names, before pictures are encoded."""

    def attach(self, family: ModelFamily, parts: Parts, spec: RunSpec) -> Adapter:
        """Add fresh fp32 parameters that change nothing yet; raise ConfigurationError if no module matches."""
