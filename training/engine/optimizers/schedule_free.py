"""Schedule-free AdamW (Defazio et al. 2024, "The road less scheduled").

Three points: z takes AdamW's steps, x is the mean of all z and is what one uses, and the gradient is taken at y between
them. The parameters hold y; z is state; x follows from both.
"""

from __future__ import annotations

import torch
from torch import Tensor

from training.engine.optimizers.base import Group, StackedRule

BETA1, BETA2 = 0.9, 0.999
EPSILON = 1e-8


class ScheduleFree(StackedRule):
    """Train without a falling learning rate; a warm-up still helps."""

    def start(self, group: Group) -> None:
        """Begin with all three points in one place."""
        group.state |= {"highest": group.number(0.0), "weight": group.number(0.0)}
        for stack in group.stacks:
            weights = stack.weights()
            stack.state = {"z": weights, "square": torch.zeros_like(weights)}

    def update(self, group: Group, rate: float, steps: Tensor) -> None:
        """Move z by AdamW's step without momentum, and the mean x towards z by the step's weight, its rate squared."""
        highest = torch.clamp(group.state["highest"], min=rate)
        total = group.state["weight"] + highest.square()
        share = torch.where(total > 0, highest.square() / total, 0.0)
        group.next |= {"highest": highest, "weight": total}
        for stack in group.stacks:
            gradient, weights, z = stack.gradients(), stack.weights(), stack.state["z"]
            square = torch.lerp(stack.state["square"], gradient.square(), 1.0 - BETA2)
            step = gradient / ((square / (1.0 - BETA2**steps)).sqrt() + EPSILON)
            step += self.training.weight_decay * weights
            # y - z is what the mean lags behind; the mean comes closer by its share, and y moves with both points.
            change = share * (z - weights) - rate * (1.0 - BETA1 + BETA1 * share) * step
            stack.propose(change, z=z - rate * step, square=square)

    def averages(self) -> dict[str, Tensor] | None:
        """Return x of each parameter."""
        return {
            name: x
            for group in self._groups for stack in group.stacks if stack.state
            for name, x in zip(stack.names, _mean(stack.weights(), stack.state["z"]).unbind(), strict=True)
        }  # fmt: skip


def _mean(y: Tensor, z: Tensor) -> Tensor:
    """Return x from y = (1 - beta1) z + beta1 x."""
    return (y - (1.0 - BETA1) * z) / BETA1
