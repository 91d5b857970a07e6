"""Step an adapter: closed-form learning rate, clipping, the update rule that the recipe names, and an average."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from training.engine import ema
from training.engine.methods.base import ParameterGroup
from training.engine.registry import load_optimizer
from training.engine.schedule import learning_rate_factor
from training.engine.spec import TrainingSpec


class Optimizer:
    """Step the adapter. The learning rate comes in closed form from the step number."""

    def __init__(self, groups: Sequence[ParameterGroup], training: TrainingSpec, total_steps: int) -> None:
        self._training = training
        self._total = total_steps
        self._base_rates = [group.learning_rate for group in groups]
        self._named = [(name, p) for group in groups for name, p in group.parameters]
        self.parameters: list[nn.Parameter] = [p for _, p in self._named]
        self._rule = load_optimizer(training.optimizer)(groups, training)
        decay = training.ema_decay
        self._average = None if decay is None else ema.Average(self._named, decay)

    def learning_rate(self, step: int, scale: float = 1.0) -> float | Tensor:
        """Return the first group's learning rate at ``step`` (0-based), on the device if the rule finds it itself."""
        return self._rule.effective_rate(self._base_rates[0] * self._factor(step) * scale)

    def _factor(self, step: int) -> float:
        training = self._training
        return learning_rate_factor(
            step, total_steps=self._total, warmup_steps=training.warmup_steps, schedule=training.schedule,
            restarts=training.schedule_restarts, power=training.schedule_power,
        )  # fmt: skip

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def clip(self) -> Tensor:
        """Shorten the gradient to the longest allowed; return its length before, still on the device."""
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients, foreach=True)
        if self._training.max_grad_norm > 0:
            nn.utils.clip_grads_with_norm_(self.parameters, self._training.max_grad_norm, norm, foreach=True)
        return norm

    def step(self, step: int, norm: Tensor, scale: float = 1.0) -> None:
        """Update, unless ``norm`` is not finite; that is decided on the device where the rule can."""
        factor = self._factor(step) * scale
        finite = torch.isfinite(norm)
        if self._average:
            self._average.begin()
        self._rule.step([rate * factor for rate in self._base_rates], finite)
        if self._average:
            self._average.follow(step, finite)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Give the adapter, for a while, the weights that are drawn with, measured and exported."""
        averages = self._average.values if self._average else self._rule.averages()
        if not averages:
            yield
            return
        trained = [p.detach().clone() for p in self.parameters]
        _copy(self.parameters, [averages[name] for name, _ in self._named])
        try:
            yield
        finally:
            _copy(self.parameters, trained)

    def state_dict(self) -> dict[str, Tensor]:
        """Return all that a resumed run needs beside the weights, as tensors by name, on the CPU."""
        return {**self._rule.state_dict(), **(self._average.state_dict() if self._average else {})}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Put a saved state back; an empty one is the state before the first step."""
        averages = {key: value for key, value in state.items() if key.endswith(f"/{ema.MOMENT}")}
        self._rule.load_state_dict({key: value for key, value in state.items() if key not in averages})
        if self._average:
            self._average.load_state_dict(averages)


@torch.no_grad()
def _copy(parameters: list[nn.Parameter], values: list[Tensor]) -> None:
    torch._foreach_copy_([*parameters], values)
