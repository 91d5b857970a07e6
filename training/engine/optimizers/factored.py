"""A matrix of squares as the outer product of its row and column means (Shazeer and Stern 2018, "Adafactor")."""

from __future__ import annotations

from torch import Tensor

SMALLEST = 1e-30


def as_matrices(stack: Tensor) -> Tensor | None:
    """Return a stack (n, rows, ...) as matrices (n, rows, columns), None for a stack of vectors."""
    return stack.flatten(2) if stack.dim() > 2 else None


def inverse_root(rows: Tensor, columns: Tensor) -> Tensor:
    """Return one over the square root of the matrices with these means, from (n, rows) and (n, columns)."""
    share = (rows / rows.mean(-1, keepdim=True)).rsqrt_()
    return share.unsqueeze(-1) * columns.rsqrt().unsqueeze(-2)


def clipped(update: Tensor, longest: float = 1.0) -> Tensor:
    """Shorten the update of each parameter of a stack to this root mean square."""
    size = update.flatten(1).square().mean(1).sqrt_().div_(longest).clamp_(min=1.0)
    return update / size.view(-1, *(1 for _ in update.shape[1:]))
