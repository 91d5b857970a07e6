"""Adafactor (Shazeer and Stern 2018) at a learning rate from outside: the squares' mean is kept as rows and columns."""

from __future__ import annotations

import torch
from torch import Tensor

from training.engine.optimizers.base import Group, StackedRule
from training.engine.optimizers.factored import SMALLEST, as_matrices, clipped, inverse_root

DECAY = -0.8
"""Of step t the mean of squares forgets so much: t to this power (section 7.2)."""


class Adafactor(StackedRule):
    """Keep one number for each row and column instead of two for each weight; no momentum."""

    def start(self, group: Group) -> None:
        """Begin with means of zero: the first step forgets them wholly."""
        for stack in group.stacks:
            weights = stack.weights()
            matrices = as_matrices(weights)
            if matrices is None:
                stack.state = {"square": torch.zeros_like(weights)}
            else:
                stack.state = {"rows": torch.zeros_like(matrices[:, :, 0]),
                               "columns": torch.zeros_like(matrices[:, 0, :])}  # fmt: skip

    def update(self, group: Group, rate: float, steps: Tensor) -> None:
        """Divide the gradient by the root of its mean square, clip, and decay the weights."""
        forgotten = (steps**DECAY).to(torch.float32)
        for stack in group.stacks:
            gradient, state = stack.gradients(), stack.state
            matrices = as_matrices(gradient)
            if matrices is None:
                square = torch.lerp(state["square"], gradient.square() + SMALLEST, forgotten)
                scaled, after = gradient * square.rsqrt(), {"square": square}
            else:
                square = matrices.square() + SMALLEST
                rows = torch.lerp(state["rows"], square.mean(-1), forgotten)
                columns = torch.lerp(state["columns"], square.mean(-2), forgotten)
                scaled, after = matrices * inverse_root(rows, columns), {"rows": rows, "columns": columns}
            change = clipped(scaled).view_as(gradient)
            stack.propose(change.add_(stack.weights(), alpha=self.training.weight_decay).mul_(-rate), **after)
