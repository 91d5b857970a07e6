"""Which pictures are kept aside to measure what was learned: a set of their own, marked ones, or some by their content.

A content that is held out is trained on nowhere, however often it is in the set.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from training.engine import rng
from training.engine.data.manifest import Item
from training.engine.errors import DataError
from training.engine.training_section import TrainingSpec


def split(
    items: Sequence[Item], training: TrainingSpec, own: Sequence[Item] = ()
) -> tuple[list[Item], list[Item]]:
    """Part the pictures into trained and held-out ones; ``own`` are a held-out set that is none of the pictures.

    Raise DataError if none is left to train on.
    """
    if own:
        contents = {item.sha256 for item in own}
    elif any(item.held_out for item in items):
        contents = {item.sha256 for item in items if item.held_out}
    else:
        contents = _chosen(items, training)
    train = [item for item in items if item.sha256 not in contents]
    if not train:
        raise DataError("all_held_out", "every picture is held out, none is left to train on")
    return train, list(own) or [item for item in items if item.sha256 in contents]


def without(items: Iterable[Item], held_out: Iterable[Item]) -> list[Item]:
    """Return those of ``items`` whose content is not held out."""
    contents = {item.sha256 for item in held_out}
    return [item for item in items if item.sha256 not in contents]


def _chosen(items: Sequence[Item], training: TrainingSpec) -> set[str]:
    """Choose contents: the first by a number that each has from its digest and the seed.

    So a picture added later can only take the place of one; with a steady share not even that, because each content
    is in by its own number or not.
    """
    seed, count = training.seed, training.held_out_of(len(items))
    ranked = sorted(items, key=lambda item: (rng.key(seed, "held-out/" + item.sha256), item.caption))
    if training.held_out_steady and count:
        below = {i.sha256 for i in ranked if rng.uniform(seed, "held-out/" + i.sha256) < training.held_out}
        if 0 < len(below) < len({item.sha256 for item in items}):
            return below
        count = 1
    contents: set[str] = set()
    for item in ranked:
        if sum(each.sha256 in contents for each in items) >= count:
            break
        contents.add(item.sha256)
    few = training.held_out_count is None and len(contents) == len({item.sha256 for item in items})
    return set() if few else contents
