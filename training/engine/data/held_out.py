"""Which pictures are kept aside to measure what was learned: marked ones, or some chosen by their content."""

from __future__ import annotations

from collections.abc import Sequence

from training.engine import rng
from training.engine.data.manifest import Item
from training.engine.errors import DataError


def split(items: Sequence[Item], fraction: float, seed: int) -> tuple[list[Item], list[Item]]:
    """Part the pictures into trained and held-out ones.

    Marked pictures are held out; without marks a fraction is chosen by content, at least one of four or more.
    """
    if any(item.held_out for item in items):
        train = [item for item in items if not item.held_out]
        if not train:
            raise DataError("all_held_out", "every picture is held out, none is left to train on")
        return train, [item for item in items if item.held_out]
    if fraction <= 0.0 or len(items) < 4:
        return list(items), []
    count = max(1, round(len(items) * fraction))
    ranked = sorted(items, key=lambda item: (rng.key(seed, "held-out/" + item.sha256), item.caption))
    chosen = {id(item) for item in ranked[:count]}
    return [i for i in items if id(i) not in chosen], [i for i in items if id(i) in chosen]
