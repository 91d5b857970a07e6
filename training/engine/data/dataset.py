"""The prepared set of a run: pictures in buckets, texts, and both caches filled."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from torch import Tensor

from training.engine import rng
from training.engine.data.buckets import Buckets, Size
from training.engine.data.captions import caption_text, split_tags, variants
from training.engine.data.encoding import EncodedPictures, EncodedTexts, Shot
from training.engine.data.held_out import split, without
from training.engine.data.identity import ModelIdentity
from training.engine.data.manifest import (
    Item,
    dataset_sha256,
    read_held_out,
    read_items,
    read_regularisation,
)
from training.engine.data.masks import EncodedMasks
from training.engine.data.placement import CENTRE, Kind, Picture, places
from training.engine.data.sampler import Sampler
from training.engine.families.base import ModelFamily, Parts, TextRow
from training.engine.progress import Progress
from training.engine.spec import RunSpec


class Dataset:
    """Hold the pictures of a run and give their latents and texts.

    ``pictures`` are those that are taught, each in its largest bucket; ``train`` has them in every bucket they belong
    to, and ``regularisation`` likewise those that are mixed in. ``samples`` is both, as the sampler counts them.
    """

    def __init__(self, spec: RunSpec, divisor: int, class_pictures: Sequence[Item] = ()) -> None:
        """Read the list, part it, and choose buckets; raise DataError for unreadable pictures.

        ``class_pictures`` are mixed in beside those that the recipe names.
        """
        self.spec = spec
        items = read_items(spec.dataset)
        own = read_held_out(spec.dataset)
        mixed_in = read_regularisation(spec.regularisation, spec.dataset)
        self.sha256 = dataset_sha256([*items, *own], mixed_in)
        train, held_out = split(items, spec.training, own)
        mixed_in = [*without(mixed_in, held_out), *class_pictures]
        if spec.prior.teacher and not mixed_in:
            mixed_in = [_of_the_class(item, spec.prior.prompt) for item in train]
        contents = {item.sha256 for item in own}
        self.left_out = [item.path.name for item in items if item.sha256 in contents]
        """Names of pictures that are not trained on because they are in the held-out set too."""
        buckets = Buckets(spec.training.sizes, divisor, spec.buckets)
        frames = spec.training.frames
        placed = [places(item, buckets, spec.masks, frames=frames) for item in train]
        self.pictures = [each[0] for each in placed]
        self.train = [picture for each in placed for picture in each]
        self.held_out = [places(item, buckets, spec.masks, frames=frames)[0] for item in held_out]
        self.regularisation = [
            picture for item in mixed_in
            for picture in places(
                item, buckets, spec.masks, "regularisation", spec.regularisation.weight, frames
            )
        ]  # fmt: skip
        self.samples = [*self.train, *self.regularisation]
        members = self._members("train")
        self.sampler = Sampler(
            members, batch_size=spec.training.batch_size,
            gradient_accumulation=spec.training.gradient_accumulation, seed=spec.training.seed,
            fill=spec.buckets.fill, mixed_in=self._members("regularisation"),
            amount=spec.regularisation.samples(sum(map(len, members.values()))) if mixed_in else 0,
        )  # fmt: skip
        self.bucket_samples = self.sampler.bucket_samples
        self.plan = spec.plan(self.bucket_samples.values())
        self._pictures: EncodedPictures | None = None
        self._masks: EncodedMasks | None = None
        self._texts: EncodedTexts | None = None

    def _members(self, kind: Kind) -> dict[str, list[int]]:
        """Return the samples of one set by bucket, repeats written out."""
        members: dict[str, list[int]] = {}
        for index, picture in enumerate(self.samples):
            if picture.kind == kind:
                members.setdefault(picture.shape_name, []).extend([index] * picture.item.repeats)
        return members

    def tag_frequencies(self) -> dict[str, int]:
        """Count comma-separated tags over the trained captions."""
        captions = [caption for p in self.pictures for caption in p.item.captions]
        parts = [part for caption in captions for part in split_tags(self.spec.captions, caption)]
        return dict(Counter(tag for part in parts for tag in part).most_common())

    # -- text ----------------------------------------------------------------------------------------------------

    def text(self, picture: Picture, variant: int = 0, caption: str | None = None) -> str:
        """Return a picture's text with its first caption as written, or with a variant of one of its captions."""
        captions, trigger = self.spec.captions, self.spec.trigger
        if picture.kind == "regularisation":
            captions, trigger = dataclasses.replace(captions, template=self.spec.regularisation.template), ""
        words = picture.item.caption if caption is None else caption
        return caption_text(captions, trigger, words, variant, self.spec.training.seed)

    def drawn_text(self, picture: Picture, step: int, sample: int) -> str:
        """Return the text that a picture is trained with as one sample of a step."""
        seed, choices = self.spec.training.seed, variants(self.spec.captions)
        captions = picture.item.captions
        variant = choices[0]
        if len(choices) > 1:
            variant = choices[int(rng.uniform(seed, "variant", step, sample) * len(choices))]
        caption = captions[int(rng.uniform(seed, "caption", step, sample) * len(captions))]
        return self.text(picture, variant, caption)

    def all_texts(self) -> list[str]:
        """List every text that training, validation and export can ask for, the empty one included."""
        choices = variants(self.spec.captions)
        drawn = [self.text(p, v, c) for p in self.samples for c in p.item.captions for v in choices]
        return ["", *drawn, *(self.text(p) for p in [*self.pictures, *self.held_out])]

    # -- caches --------------------------------------------------------------------------------------------------

    def all_shots(self) -> Iterator[Shot]:
        """Give every form of a picture that training and validation can ask for."""
        for picture in self.samples:
            for crop in self.crops:
                yield Shot(picture, False, crop)
                if self.spec.training.flip and picture.item.flip:
                    yield Shot(picture, True, crop)
        yield from map(Shot, self.held_out)

    @property
    def crops(self) -> list[float]:
        """Return the parts of a picture's slack at which it is cropped, evenly spread from end to end."""
        training = self.spec.training
        if training.crop == "centre":
            return [CENTRE]
        return [place / (training.crop_variants - 1) for place in range(training.crop_variants)]

    def drawn_shot(self, picture: Picture, step: int, sample: int) -> Shot:
        """Return how a picture is shown as one sample of a step."""
        training, crops = self.spec.training, self.crops
        flip = training.flip and picture.item.flip and rng.uniform(training.seed, "flip", step, sample) < 0.5
        crop = crops[int(rng.uniform(training.seed, "crop", step, sample) * len(crops))]
        return Shot(picture, flip, crop)

    def cache_latents(
        self, family: ModelFamily, parts: Parts, folder: Path, identity: ModelIdentity, progress: Progress
    ) -> int:
        """Encode the pictures that no earlier run encoded, and cut their masks; return how many pictures that were."""
        self._pictures = EncodedPictures(family, parts, folder, identity)
        encoded = self._pictures.fill(self.all_shots(), edge=self.spec.training.resolution, progress=progress)

        def grid(bucket: Size) -> tuple[int, int]:
            *_, rows, columns = family.latent_shape(parts, *bucket)
            return rows, columns

        self._masks = EncodedMasks(folder, grid)
        self._masks.fill(self.all_shots(), progress=progress)
        return encoded

    def cache_texts(
        self, family: ModelFamily, parts: Parts, folder: Path, identity: ModelIdentity, texts: Iterable[str],
        progress: Progress,
    ) -> int:  # fmt: skip
        """Encode the texts that no earlier run encoded; return how many that were."""
        self._texts = EncodedTexts(family, parts, folder, identity)
        return self._texts.fill(texts, progress=progress)

    def latent(self, picture: Picture, flip: bool = False, crop: float = CENTRE) -> Tensor:
        """Return the cached latents (C, h, w) of a picture."""
        assert self._pictures is not None, "cache_latents comes first"
        return self._pictures.latent(Shot(picture, flip, crop))

    def mask(self, picture: Picture, flip: bool = False, crop: float = CENTRE) -> Tensor | None:
        """Return how much each place of a picture's latents counts, (1, h, w); None where all count the same."""
        assert self._masks is not None, "cache_latents comes first"
        mask, outside = self._masks.mask(Shot(picture, flip, crop)), self.spec.masks.outside
        return None if mask is None else outside + (1.0 - outside) * mask

    def text_row(self, text: str) -> TextRow:
        """Return the cached encoding of a text."""
        assert self._texts is not None, "cache_texts comes first"
        return self._texts.row(text)


def _of_the_class(item: Item, prompt: str) -> Item:
    """Return a picture of the set as one of its class: all of it, by the class prompt."""
    return dataclasses.replace(item, caption=prompt, alternatives=(), mask=None, mask_sha256="")
