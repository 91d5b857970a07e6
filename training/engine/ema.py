"""The exponential moving average of an adapter's weights: steadier than the last step's, and what is then exported."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

MOMENT = "average"


def decay_at(step: int, decay: float) -> float:
    """Return how much of the average stays at ``step`` (0-based): little at first, so that it forgets the start."""
    return min(decay, (1 + step) / (10 + step))


class Average:
    """Follow the parameters in fp32, on their device."""

    def __init__(self, named: Sequence[tuple[str, nn.Parameter]], decay: float) -> None:
        self._names = [name for name, _ in named]
        self._parameters = [p for _, p in named]
        self._decay = decay
        self._values: list[Tensor] = []

    @property
    def values(self) -> dict[str, Tensor]:
        """Return the average of each parameter by name; empty before the first step."""
        return dict(zip(self._names, self._values, strict=False))

    def begin(self) -> None:
        """Take the weights before the first step, unless there is an average already."""
        if not self._values:
            self._values = [p.detach().clone() for p in self._parameters]

    @torch.no_grad()
    def follow(self, step: int, finite: Tensor) -> None:
        """Come closer to the weights after ``step`` (0-based), where it was ``finite``."""
        share = torch.where(finite, 1.0 - decay_at(step, self._decay), 0.0)
        way = torch._foreach_sub([*self._parameters], self._values)
        torch._foreach_mul_([*way], share)
        torch._foreach_add_(self._values, way)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the average as ``<parameter>/average``, copied to the CPU."""
        return {f"{name}/{MOMENT}": value.to("cpu", copy=True) for name, value in self.values.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Put a saved average back; an empty state is that before the first step."""
        self._values = [
            state[f"{name}/{MOMENT}"].to(p.device, copy=True)
            for name, p in zip(self._names, self._parameters, strict=True) if state
        ]  # fmt: skip
