"""What a person should know of a set that can be trained on all the same."""

from __future__ import annotations

from collections.abc import Iterator

from training.engine.data.buckets import enlargement
from training.engine.data.captions import has_word
from training.engine.data.dataset import Dataset
from training.engine.events import Warning


def check_set(dataset: Dataset) -> Iterator[Warning]:
    """Look at sizes and captions."""
    spec = dataset.spec
    most = spec.buckets.enlarge
    small = [p.item.path.name for p in dataset.pictures if enlargement(p.original, p.bucket) > most]
    if small:
        yield Warning(
            "images_small",
            f"{len(small)} pictures are much smaller than the training resolution, e.g. {small[0]!r}.",
            hint="Enlarged pictures teach blur. Use larger pictures or a lower resolution.",
        )
    if not any(any(p.item.captions) for p in dataset.pictures) and not spec.trigger:
        yield Warning(
            "captions_missing", "There are neither captions nor a trigger word.",
            hint="Give a trigger word, or write captions; otherwise nothing in a prompt calls the LoRA.",
        )  # fmt: skip

    if dataset.left_out:
        yield Warning(
            "held_out_in_set",
            f"{len(dataset.left_out)} pictures are in the held-out set too, e.g. {dataset.left_out[0]!r}; "
            "they are not trained on.",
            hint="What is trained on cannot measure what was learned.",
        )
    named = [p.item.path.name for p in dataset.regularisation if has_word(dataset.text(p), spec.trigger)]
    if named:
        yield Warning(
            "regularisation_trigger",
            f"The trigger word is in the captions of regularisation pictures, e.g. of {named[0]!r}.",
            hint="It then means them too. Take it out of their captions.",
        )


def check_masks(dataset: Dataset) -> Iterator[Warning]:
    """Look for masks of which nothing is left in their bucket; the caches are filled by now."""
    outside = dataset.spec.masks.outside
    empty = []
    for picture in dataset.pictures:
        masks = [dataset.mask(picture, crop=crop) for crop in dataset.crops]
        if outside < 1.0 and all(mask is not None and mask.max() < outside + 1e-6 for mask in masks):
            empty.append(picture.item.path.name)
    if empty:
        yield Warning(
            "masks_empty", f"The masks of {len(empty)} pictures leave nothing to learn, e.g. that of {empty[0]!r}.",
            hint="White is learned, black is not; it may also be that the crop leaves the white part out.",
        )  # fmt: skip
