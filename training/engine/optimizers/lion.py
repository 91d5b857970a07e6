"""Lion (Chen et al. 2023, "Symbolic discovery of optimization algorithms"): the sign of a momentum, one moment only."""

from __future__ import annotations

import torch
from torch import Tensor

from training.engine.optimizers.base import Group, StackedRule

BETA1, BETA2 = 0.9, 0.99


class Lion(StackedRule):
    """Step by the learning rate in every coordinate: it wants a third to a tenth of AdamW's."""

    def start(self, group: Group) -> None:
        """Begin with no momentum."""
        for stack in group.stacks:
            stack.state = {"momentum": torch.zeros_like(stack.weights())}

    def update(self, group: Group, rate: float, steps: Tensor) -> None:
        """Follow sign(beta1 m + (1 - beta1) g), then let the momentum follow the gradient by beta2."""
        for stack in group.stacks:
            gradient, momentum = stack.gradients(), stack.state["momentum"]
            direction = torch.lerp(momentum, gradient, 1.0 - BETA1).sign_()
            change = direction.add_(stack.weights(), alpha=self.training.weight_decay).mul_(-rate)
            stack.propose(change, momentum=torch.lerp(momentum, gradient, 1.0 - BETA2))
