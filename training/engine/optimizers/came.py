"""CAME (Luo et al. 2023, "CAME: Confidence-guided Adaptive Memory Efficient Optimization")."""

from __future__ import annotations

import torch
from torch import Tensor

from training.engine.optimizers.base import Group, StackedRule
from training.engine.optimizers.factored import SMALLEST, as_matrices, clipped, inverse_root

BETA1, BETA2, BETA3 = 0.9, 0.999, 0.9999
LEAST_DOUBT = 1e-16


class Came(StackedRule):
    """Take Adafactor's step with momentum, smaller where the momentum disagrees with the steps it is the mean of."""

    def start(self, group: Group) -> None:
        """Begin with means of zero."""
        for stack in group.stacks:
            weights = stack.weights()
            stack.state = {"momentum": torch.zeros_like(weights)}
            matrices = as_matrices(weights)
            if matrices is None:
                stack.state["square"] = torch.zeros_like(weights)
                continue
            rows, columns = torch.zeros_like(matrices[:, :, 0]), torch.zeros_like(matrices[:, 0, :])
            stack.state |= {"rows": rows, "columns": columns, "doubt_rows": rows, "doubt_columns": columns}

    def update(self, group: Group, rate: float, steps: Tensor) -> None:
        """Follow algorithm 2 of the paper; vectors have no factors and follow the momentum."""
        decay = self.training.weight_decay
        for stack in group.stacks:
            gradient, state = stack.gradients(), stack.state
            matrices = as_matrices(gradient)
            if matrices is None:
                square = torch.lerp(state["square"], gradient.square() + SMALLEST, 1.0 - BETA2)
                momentum = torch.lerp(state["momentum"], clipped(gradient * square.rsqrt()), 1.0 - BETA1)
                stack.propose((momentum + decay * stack.weights()) * -rate, square=square, momentum=momentum)
                continue
            square = matrices.square() + SMALLEST
            rows = torch.lerp(state["rows"], square.mean(-1), 1.0 - BETA2)
            columns = torch.lerp(state["columns"], square.mean(-2), 1.0 - BETA2)
            scaled = clipped(matrices * inverse_root(rows, columns))
            momentum = torch.lerp(state["momentum"].view_as(scaled), scaled, 1.0 - BETA1)
            doubt = (scaled - momentum).square_() + LEAST_DOUBT
            doubt_rows = torch.lerp(state["doubt_rows"], doubt.mean(-1), 1.0 - BETA3)
            doubt_columns = torch.lerp(state["doubt_columns"], doubt.mean(-2), 1.0 - BETA3)
            change = (momentum * inverse_root(doubt_rows, doubt_columns)).view_as(gradient)
            stack.propose(
                change.add_(stack.weights(), alpha=decay).mul_(-rate), momentum=momentum.view_as(gradient),
                rows=rows, columns=columns, doubt_rows=doubt_rows, doubt_columns=doubt_columns,
            )  # fmt: skip
