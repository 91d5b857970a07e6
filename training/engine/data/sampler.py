"""Which pictures make up which step, as a pure function of (seed, epoch, position)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from training.engine import rng

Batch = tuple[int, ...]
"""Indexes of pictures of one bucket."""


class Sampler:
    """Deal the pictures of each bucket into batches; each picture comes ``repeats`` times an epoch, never more.

    The last batch of a bucket may be smaller. Only a set that is smaller than one batch is filled up by repetition,
    and with ``fill`` not even that: ``filled`` is for whoever computes the batches.
    """

    def __init__(
        self, buckets: Mapping[str, Sequence[int]], *, batch_size: int, gradient_accumulation: int, seed: int,
        fill: bool = False,
    ) -> None:  # fmt: skip
        """Take picture indexes by bucket, repeats written out."""
        self._buckets = {name: list(members) for name, members in sorted(buckets.items()) if members}
        self._batch_size = batch_size
        self._accumulation = gradient_accumulation
        self._seed = seed
        self._fill = fill
        batches = sum(-(-len(members) // batch_size) for members in self._buckets.values())
        self.steps_per_epoch = max(1, -(-batches // gradient_accumulation))
        self._epoch = lru_cache(maxsize=2)(self._deal)

    def epoch(self, epoch: int) -> list[Batch]:
        """Return all batches of an epoch in order."""
        return self._epoch(epoch)

    def step(self, step: int) -> list[Batch]:
        """Return the batches whose gradients are added up in optimizer step ``step`` (0-based)."""
        epoch, position = divmod(step, self.steps_per_epoch)
        start = position * self._accumulation
        return self._epoch(epoch)[start : start + self._accumulation]

    def _deal(self, epoch: int) -> list[Batch]:
        batches: list[Batch] = []
        for name, members in self._buckets.items():
            order = rng.permutation(len(members), self._seed, f"order/{name}", epoch)
            dealt = [members[i] for i in order]
            if not self._fill and len(self._buckets) == 1 and len(dealt) < self._batch_size:
                dealt = [dealt[i % len(dealt)] for i in range(self._batch_size)]
            for start in range(0, len(dealt), self._batch_size):
                batches.append(tuple(dealt[start : start + self._batch_size]))
        order = rng.permutation(len(batches), self._seed, "batches", epoch)
        return [batches[i] for i in order]


def filled(batch: Batch, size: int) -> list[tuple[int, float]]:
    """Fill a batch to ``size`` by repeating its own members in turn; return each with its share of the loss.

    The shares of one picture's repetitions add up to 1. So the loss of a step stays the mean over its pictures and
    its expected gradient that of the short batch, none counting double; repetitions only add noise levels to the mean.
    """
    slots = max(size, len(batch))
    whole, rest = divmod(slots, len(batch))
    shares = [1.0 / (whole + 1 if position < rest else whole) for position in range(len(batch))]
    return [(batch[slot % len(batch)], shares[slot % len(batch)]) for slot in range(slots)]
