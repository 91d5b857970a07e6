"""Prodigy (Mishchenko and Defazio 2024, "Prodigy: An expeditiously adaptive parameter-free learner").

Each group has an estimate ``d`` of how far the solution is, which only grows; the learning rate from outside, best 1,
multiplies it. With bias correction and without the learning rate in the estimate's denominator, as its authors advise
for diffusion models (their repository's README).
"""

from __future__ import annotations

import torch
from torch import Tensor

from training.engine.optimizers.base import Group, StackedRule

BETA1, BETA2 = 0.9, 0.99
BETA3 = BETA2**0.5
FIRST = 1e-6
EPSILON = 1e-8


class Prodigy(StackedRule):
    """Find the learning rate while training; the first group's is what ``effective_rate`` tells."""

    def start(self, group: Group) -> None:
        """Note where the weights begin: the estimate measures how far they came."""
        group.state |= {"d": group.number(FIRST), "numerator": group.number(0.0)}
        for stack in group.stacks:
            weights = stack.weights()
            stack.state = {"start": weights, **{
                name: torch.zeros_like(weights) for name in ("first", "second", "correlation")
            }}  # fmt: skip

    def update(self, group: Group, rate: float, steps: Tensor) -> None:
        """Improve the estimate, then step like Adam with gradients scaled by it."""
        d = group.state["d"]
        correction = (1.0 - BETA2**steps).sqrt() / (1.0 - BETA1**steps)
        length = d * rate * correction
        numerator, denominator = BETA3 * group.state["numerator"], group.number(0.0)
        after: list[dict[str, Tensor]] = []
        for stack in group.stacks:
            gradient, state = stack.gradients(), stack.state
            way = (gradient * (state["start"] - stack.weights())).sum()
            numerator = numerator + (d / FIRST) * length * way
            correlation = BETA3 * state["correlation"] + (d / FIRST) * d * gradient
            denominator = denominator + correlation.abs().sum()
            after.append({
                "first": BETA1 * state["first"] + (1.0 - BETA1) * d * gradient,
                "second": BETA2 * state["second"] + (1.0 - BETA2) * d.square() * gradient.square(),
                "correlation": correlation,
            })  # fmt: skip
        # Without any gradient there is nothing to learn of the distance.
        seen = torch.where(denominator > 0, numerator / denominator, 0.0)
        estimate = torch.maximum(d, seen)
        group.next |= {"d": estimate, "numerator": numerator}
        for stack, state in zip(group.stacks, after, strict=True):
            direction = state["first"] / (state["second"].sqrt() + estimate * EPSILON)
            change = -length * (direction + self.training.weight_decay * stack.weights())
            stack.propose(change, **state)

    def effective_rate(self, rate: float) -> float | Tensor:
        """Return the rate times the estimate, on the device."""
        return rate * self._groups[0].state.get("d", FIRST)
