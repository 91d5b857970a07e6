"""Write the change of a weight as factors of the smallest rank that keeps a given share of it.

A share is that of the Frobenius norm: ||kept|| / ||whole||.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

import torch
from torch import Tensor

from training.engine import rng
from training.engine.methods.changes import Change, Decomposed, LowRank

WHOLE = 1024
"""Matrices up to this smaller side are decomposed wholly, larger ones by a random sketch of as many rows."""
SPARE, ROUNDS = 16, 4
"""Further directions of the sketch, and rounds that sharpen it (Halko et al. 2011, algorithm 4.4)."""


@dataclasses.dataclass(frozen=True)
class Decomposition:
    """Be ``left @ diag(values) @ right``, largest values first, of a matrix of the Frobenius norm ``norm``."""

    left: Tensor
    values: Tensor
    right: Tensor
    norm: float

    def cut(self, rank: int | None, keep: float | None) -> Cut:
        """Return the factors of the wanted rank, or of the smallest that keeps that share; never more than both."""
        sums = self.values.square().cumsum(0).sqrt()
        count = int((self.values > self.values.max() * 1e-7).sum()) if self.norm else 1
        if keep is not None:
            count = min(count, int((sums < keep * self.norm).sum()) + 1)
        count = max(1, min(count, rank if rank is not None else count))
        root = self.values[:count].sqrt()
        kept = min(1.0, float(sums[count - 1]) / self.norm) if self.norm else 1.0
        return Cut(self.left[:, :count] * root, root[:, None] * self.right[:count], kept, self.norm)


@dataclasses.dataclass(frozen=True)
class Cut:
    """Be two factors, ``up`` (out, r) and ``down`` (r, in), the share that they keep, and the norm of the whole."""

    up: Tensor
    down: Tensor
    kept: float
    norm: float

    @property
    def rank(self) -> int:
        """Return the inner size of the factors."""
        return self.down.shape[0]

    def change(self, inner: torch.Size) -> LowRank:
        """Return the change of a layer whose weight is (out, *inner)."""
        down = self.down.float().reshape(self.rank, *inner)
        up = self.up.float().reshape(*self.up.shape, *[1] * (len(inner) - 1))
        return LowRank(down, up, scale=1.0)


def decompose(change: Change, rank: int | None = None) -> Decomposition:
    """Decompose a change that does not depend on the weight; a low-rank one exactly, through its factors."""
    if isinstance(change, LowRank) and not isinstance(change, Decomposed):
        return of_factors(change.up.flatten(1).double() * change.scale, change.down.flatten(1).double())
    return of_matrix(change.product(), rank)


def of_factors(up: Tensor, down: Tensor) -> Decomposition:
    """Decompose ``up @ down`` without multiplying it out: through the QR of each and the SVD of the small core."""
    left, upper = torch.linalg.qr(up)
    right, lower = torch.linalg.qr(down.mT)
    inner, values, outer = torch.linalg.svd(upper @ lower.mT, full_matrices=False)
    return Decomposition(left @ inner, values, outer @ right.mT, float(values.norm()))


def of_matrix(matrix: Tensor, rank: int | None = None) -> Decomposition:
    """Decompose a matrix (out, in); of a large one no more than ``rank`` directions, by a sketch that is repeatable."""
    whole = matrix.float()
    norm = float(whole.double().norm())
    if rank is None or min(whole.shape) <= max(WHOLE, rank + SPARE):
        left, values, right = torch.linalg.svd(whole, full_matrices=False)
        return Decomposition(left, values, right, norm)
    start = torch.randn((whole.shape[1], rank + SPARE), generator=rng.generator(0, "svd")).to(whole.device)
    basis = torch.linalg.qr(whole @ start).Q
    for _ in range(ROUNDS):
        basis = torch.linalg.qr(whole @ torch.linalg.qr(whole.mT @ basis).Q).Q
    inner, values, right = torch.linalg.svd(basis.mT @ whole, full_matrices=False)
    return Decomposition((basis @ inner)[:, :rank], values[:rank], right[:rank], norm)


def norm_of(change: Change) -> float:
    """Return the Frobenius norm of a change that does not depend on the weight."""
    if isinstance(change, LowRank) and not isinstance(change, Decomposed):
        up, down = change.up.flatten(1).double(), change.down.flatten(1).double()
        square = float(((up.mT @ up) * (down @ down.mT)).sum())
        return abs(change.scale) * math.sqrt(max(square, 0.0))
    return float(change.product().double().norm())


def distance(one: Change, other: Change) -> float:
    """Return the Frobenius norm of the difference of two changes of the same weight."""
    if isinstance(one, LowRank) and isinstance(other, LowRank):
        up = torch.cat(
            [one.scale * one.up.flatten(1).double(), -other.scale * other.up.flatten(1).double()], 1
        )
        down = torch.cat([one.down.flatten(1).double(), other.down.flatten(1).double()])
        return norm_of(LowRank(down, up, scale=1.0))
    return float((one.product() - other.product()).double().norm())


def share(cuts: Iterable[Cut]) -> float:
    """Return the share of the norm of several cuts together."""
    pairs = [(cut.kept * cut.norm, cut.norm) for cut in cuts]
    whole = math.hypot(*(norm for _, norm in pairs))
    return math.hypot(*(kept for kept, _ in pairs)) / whole if whole else 1.0
