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

    Of the pictures ``mixed_in`` every epoch has ``amount``, parted among the buckets once and for all; it goes on where
    the epoch before ended, so that all of a bucket are seen equally often.
    """

    def __init__(
        self, buckets: Mapping[str, Sequence[int]], *, batch_size: int, gradient_accumulation: int, seed: int,
        fill: bool = False, mixed_in: Mapping[str, Sequence[int]] | None = None, amount: int = 0,
    ) -> None:  # fmt: skip
        """Take picture indexes by bucket, repeats written out."""
        mixed_in = mixed_in or {}
        self._buckets = {
            name: list(buckets.get(name, ())) for name in sorted({*buckets, *mixed_in})
            if buckets.get(name) or mixed_in.get(name)
        }  # fmt: skip
        self._batch_size = batch_size
        self._accumulation = gradient_accumulation
        self._seed = seed
        self._fill = fill
        self._mixed_in = mixed_in
        self._amounts = spread(amount, {name: len(members) for name, members in mixed_in.items()})
        sizes = {name: len(each) + self._amounts.get(name, 0) for name, each in self._buckets.items()}
        self.bucket_samples = {name: size for name, size in sizes.items() if size}
        """Samples of an epoch by bucket."""
        batches = sum(-(-size // batch_size) for size in sizes.values())
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
        for name, own in self._buckets.items():
            members = [*own, *self._next_of_mixed_in(name, epoch)]
            order = rng.permutation(len(members), self._seed, f"order/{name}", epoch)
            dealt = [members[i] for i in order]
            if not self._fill and len(self._buckets) == 1 and len(dealt) < self._batch_size:
                dealt = [dealt[i % len(dealt)] for i in range(self._batch_size)]
            for start in range(0, len(dealt), self._batch_size):
                batches.append(tuple(dealt[start : start + self._batch_size]))
        order = rng.permutation(len(batches), self._seed, "batches", epoch)
        return [batches[i] for i in order]

    def _next_of_mixed_in(self, name: str, epoch: int) -> list[int]:
        """Return what an epoch takes of a bucket's pictures mixed in: the next of them, round after round."""
        members, amount = self._mixed_in.get(name, ()), self._amounts.get(name, 0)
        taken: list[int] = []
        position = epoch * amount
        while len(taken) < amount:
            round_, start = divmod(position + len(taken), len(members))
            order = rng.permutation(len(members), self._seed, f"mixed-in/{name}", round_)
            taken += [members[i] for i in order[start : start + amount - len(taken)]]
        return taken


def spread(total: int, sizes: Mapping[str, int]) -> dict[str, int]:
    """Part ``total`` in proportion to ``sizes``, in whole numbers, none of them 0 as long as there is enough."""
    whole = sum(sizes.values())
    parts = {name: total * size // whole for name, size in sizes.items()}
    by_remainder = sorted(sizes, key=lambda name: (-(total * sizes[name] % whole), name))
    for name in by_remainder[: total - sum(parts.values())] if whole else []:
        parts[name] += 1
    for name in sorted(sizes):
        richest = max(parts, key=lambda each: (parts[each], each))
        if parts[name] == 0 and sizes[name] and parts[richest] > 1:
            parts[richest] -= 1
            parts[name] = 1
    return parts


def filled(batch: Batch, size: int) -> list[tuple[int, float]]:
    """Fill a batch to ``size`` by repeating its own members in turn; return each with its share of the loss.

    The shares of one picture's repetitions add up to 1. So the loss of a step stays the mean over its pictures and
    its expected gradient that of the short batch, none counting double; repetitions only add noise levels to the mean.
    """
    slots = max(size, len(batch))
    whole, rest = divmod(slots, len(batch))
    shares = [1.0 / (whole + 1 if position < rest else whole) for position in range(len(batch))]
    return [(batch[slot % len(batch)], shares[slot % len(batch)]) for slot in range(slots)]
