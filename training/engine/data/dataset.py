"""The prepared set of a run: pictures in buckets, texts, and both caches filled."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from training.engine import rng
from training.engine.data.buckets import Size, bucket_sizes, choose_bucket
from training.engine.data.cache import Row, TensorCache, content_key
from training.engine.data.identity import ModelIdentity
from training.engine.data.manifest import Item, caption_text, dataset_sha256, read_items, split
from training.engine.data.pictures import load_pixels, read_size
from training.engine.data.sampler import Sampler
from training.engine.errors import DataError
from training.engine.families.base import ModelFamily, Parts, TextRow, View
from training.engine.progress import Progress
from training.engine.spec import RunSpec

# 2: grey of 16 bits is scaled, no longer cut off at 255.
LATENT_VERSION = 2
TEXT_VERSION = 1


@dataclasses.dataclass(frozen=True)
class Picture:
    """Be one picture in its bucket."""

    item: Item
    original: Size
    bucket: Size

    @property
    def view(self) -> View:
        """Return what is left of it in its bucket: scaled to cover it, cropped at the centre."""
        (width, height), (bucket_width, bucket_height) = self.original, self.bucket
        scale = max(bucket_width / width, bucket_height / height)
        left, top = round(width * scale) - bucket_width, round(height * scale) - bucket_height
        return View(self.original, (max(0, left) // 2, max(0, top) // 2), self.bucket)


class Dataset:
    """Hold the pictures of a run and give their latents and texts."""

    def __init__(self, spec: RunSpec, divisor: int) -> None:
        """Read the list, part it, and choose buckets; raise DataError for unreadable pictures."""
        self.spec = spec
        items = read_items(spec.dataset)
        self.sha256 = dataset_sha256(items)
        train, held_out = split(items, spec.training.held_out, spec.training.seed)
        sizes = bucket_sizes(spec.training.resolution, divisor)
        self.train = [self._place(item, sizes) for item in train]
        self.held_out = [self._place(item, sizes) for item in held_out]
        members: dict[str, list[int]] = {}
        for index, picture in enumerate(self.train):
            name = f"{picture.bucket[0]}x{picture.bucket[1]}"
            members.setdefault(name, []).extend([index] * picture.item.repeats)
        self.bucket_samples = {name: len(indexes) for name, indexes in sorted(members.items())}
        self.sampler = Sampler(
            members, batch_size=spec.training.batch_size,
            gradient_accumulation=spec.training.gradient_accumulation, seed=spec.training.seed,
        )  # fmt: skip
        self.plan = spec.plan(self.bucket_samples.values())
        self._latents: TensorCache | None = None
        self._texts: TensorCache | None = None

    @staticmethod
    def _place(item: Item, sizes: Sequence[Size]) -> Picture:
        size = read_size(item.path)
        return Picture(item, size, choose_bucket(size, sizes))

    def small_pictures(self) -> list[str]:
        """Name the pictures that must be enlarged by more than a half to fill their bucket."""
        return [
            p.item.path.name for p in self.train
            if 1.5 * p.original[0] < p.bucket[0] or 1.5 * p.original[1] < p.bucket[1]
        ]  # fmt: skip

    def tag_frequencies(self) -> dict[str, int]:
        """Count comma-separated tags over the trained captions."""
        tags = (tag.strip() for p in self.train for tag in p.item.caption.split(","))
        return dict(Counter(tag for tag in tags if tag).most_common())

    # -- text ----------------------------------------------------------------------------------------------------

    def text(self, picture: Picture, variant: int = 0) -> str:
        """Return the text a picture is trained with."""
        spec = self.spec
        return caption_text(spec.captions, spec.trigger, picture.item.caption, variant, spec.training.seed)

    def variant(self, step: int, sample: int) -> int:
        """Choose the tag order of one sample of a step; 0 is the caption as written."""
        captions = self.spec.captions
        if not captions.shuffle_tags:
            return 0
        return int(rng.uniform(self.spec.training.seed, "variant", step, sample) * captions.shuffle_variants)

    def all_texts(self) -> list[str]:
        """List every text that training and validation can ask for, the empty one included."""
        captions = self.spec.captions
        variants = range(captions.shuffle_variants if captions.shuffle_tags else 1)
        texts = [self.text(p, v) for p in self.train for v in variants]
        return ["", *texts, *(self.text(p) for p in self.held_out)]

    # -- caches --------------------------------------------------------------------------------------------------

    def cache_latents(
        self, family: ModelFamily, parts: Parts, folder: Path, identity: ModelIdentity, progress: Progress
    ) -> int:
        """Encode the pictures that no earlier run encoded; return how many that were."""
        self._latents = cache = TensorCache(self._namespace(family, parts, folder, identity, "latents"))
        wanted: dict[str, tuple[Picture, bool]] = {}
        for picture in [*self.train, *self.held_out]:
            flips = (False, True) if self.spec.training.flip else (False,)
            for flip in flips:
                wanted[latent_key(picture, flip)] = (picture, flip)
        ordered = sorted(wanted, key=lambda key: wanted[key][0].bucket)
        device = next(parts.vae.parameters()).device
        edge = self.spec.training.resolution
        batch = max(1, min(8, 8 * 512 * 512 // (edge * edge)))

        @torch.no_grad()
        def encode(keys: Sequence[str]) -> list[Row]:
            rows: list[Row] = []
            for run in _runs(keys, lambda key: wanted[key][0].bucket):
                pixels = torch.stack([
                    load_pixels(wanted[k][0].item.path, *wanted[k][0].bucket, flip=wanted[k][1]) for k in run
                ])  # fmt: skip
                latents = family.encode_image(parts, pixels.to(device))
                for key, latent in zip(run, latents, strict=True):
                    if not torch.isfinite(latent).all():
                        name = wanted[key][0].item.path.name
                        raise DataError(
                            "latent_not_finite", f"picture {name!r} cannot be encoded by this model"
                        )
                    rows.append({"latent": latent})
            return rows

        return cache.fill(ordered, encode, batch=batch, progress=progress)

    def cache_texts(
        self, family: ModelFamily, parts: Parts, folder: Path, identity: ModelIdentity, texts: Iterable[str],
        progress: Progress,
    ) -> int:  # fmt: skip
        """Encode the texts that no earlier run encoded; return how many that were."""
        self._texts = cache = TensorCache(self._namespace(family, parts, folder, identity, "text"))
        by_key = {text_key(text): text for text in texts}

        @torch.no_grad()
        def encode(keys: Sequence[str]) -> list[TextRow]:
            return family.encode_text(parts, [by_key[key] for key in keys])

        return cache.fill(by_key, encode, batch=32, progress=progress)

    @staticmethod
    def _namespace(
        family: ModelFamily, parts: Parts, folder: Path, identity: ModelIdentity, kind: str
    ) -> Path:
        if parts.folder is None:
            digest = "unsaved"
        else:
            digest = identity.sha256(family.cache_identity(parts.folder)[kind])[:24]
        if kind == "latents":
            return folder / kind / f"{family.name}-{digest}-v{LATENT_VERSION}"
        return folder / kind / f"{family.name}{family.dialect(parts)}-{digest}-v{TEXT_VERSION}"

    def latent(self, picture: Picture, flip: bool = False) -> Tensor:
        """Return the cached latents (C, h, w) of a picture."""
        assert self._latents is not None, "cache_latents comes first"
        return self._latents.get(latent_key(picture, flip))["latent"]

    def text_row(self, text: str) -> TextRow:
        """Return the cached encoding of a text."""
        assert self._texts is not None, "cache_texts comes first"
        return self._texts.get(text_key(text))


def latent_key(picture: Picture, flip: bool) -> str:
    """Key latents by the picture's content and by what is done to it before encoding."""
    return content_key(picture.item.sha256, *picture.bucket, "fit-centre", flip)


def text_key(text: str) -> str:
    """Key an encoded text by itself; the encoder is in the namespace."""
    return content_key("text", text)


def _runs(keys: Sequence[str], group: Callable[[str], object]) -> list[list[str]]:
    """Cut a sequence where the group changes."""
    runs: list[list[str]] = []
    for key in keys:
        if runs and group(runs[-1][-1]) == group(key):
            runs[-1].append(key)
        else:
            runs.append([key])
    return runs
