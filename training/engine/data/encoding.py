"""Pictures and texts in their encoded form: computed once, kept by content, never in the midst of training."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from training.engine.data.cache import Row, TensorCache, content_key
from training.engine.data.clips import load_clip
from training.engine.data.identity import ModelIdentity
from training.engine.data.pictures import Corner, load_pixels
from training.engine.data.placement import CENTRE, Picture
from training.engine.errors import DataError
from training.engine.families.base import ModelFamily, Parts, TextRow
from training.engine.progress import Progress

# 2: grey of 16 bits is scaled, no longer cut off at 255.
LATENT_VERSION = 2
# 2: rows keep the number format of their encoders.
TEXT_VERSION = 2
_FORMATS = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


@dataclasses.dataclass(frozen=True)
class Shot:
    """Be one way of showing a picture to the model: mirrored or not, and cropped at some part of its slack."""

    picture: Picture
    flip: bool = False
    crop: float = CENTRE

    @property
    def corner(self) -> Corner | None:
        """Return where the crop begins; None is the centre, which is exact to less than a pixel."""
        if self.crop == CENTRE or self.picture.slack == (0, 0):
            return None
        return self.picture.view_at(self.crop).crop

    @property
    def key(self) -> str:
        """Name its latents by the picture's content and by what is done to it before encoding."""
        place = "fit-centre" if self.corner is None else "at {},{}".format(*self.corner)
        frames = (self.picture.frames,) if self.picture.frames > 1 else ()
        return content_key(self.picture.item.sha256, *self.picture.bucket, place, self.flip, *frames)


class EncodedPictures:
    """Hold the latents of pictures as one VAE makes them."""

    def __init__(self, family: ModelFamily, parts: Parts, folder: Path, identity: ModelIdentity) -> None:
        """Open what earlier runs encoded with the same VAE."""
        self._family, self._parts = family, parts
        self._cache = TensorCache(latent_namespace(family, parts, folder, identity))

    def fill(self, shots: Iterable[Shot], *, edge: int, progress: Progress) -> int:
        """Encode what is not there yet and return how much that was; ``edge`` is the side of a square bucket.

        Raise DataError for a picture that cannot be decoded or encoded.
        """
        wanted = {shot.key: shot for shot in shots}
        ordered = sorted(wanted, key=lambda key: wanted[key].picture.shape)
        device = next(self._parts.vae.parameters()).device

        @torch.no_grad()
        def encode(keys: Sequence[str]) -> list[Row]:
            rows: list[Row] = []
            for run in _runs(keys, lambda key: wanted[key].picture.shape):
                pixels = torch.stack([_pixels(wanted[key], self._family.frame_rate) for key in run])
                latents = self._family.encode_image(self._parts, pixels.to(device))
                for key, latent in zip(run, latents, strict=True):
                    if not torch.isfinite(latent).all():
                        name = wanted[key].picture.item.path.name
                        raise DataError(
                            "latent_not_finite", f"picture {name!r} cannot be encoded by this model"
                        )
                    rows.append({"latent": latent})
            return rows

        frames = max((shot.picture.frames for shot in wanted.values()), default=1)
        batch = max(1, min(8, 8 * 512 * 512 // (edge * edge * frames)))
        return self._cache.fill(ordered, encode, batch=batch, progress=progress)

    def latent(self, shot: Shot) -> Tensor:
        """Return the latents (C, h, w) of a shot that is there, of a clip (C, F, h, w)."""
        return self._cache.get(shot.key)["latent"]


class EncodedTexts:
    """Hold texts as one set of text encoders makes them."""

    def __init__(self, family: ModelFamily, parts: Parts, folder: Path, identity: ModelIdentity) -> None:
        """Open what earlier runs encoded with the same encoders."""
        self._family, self._parts = family, parts
        self._cache = TensorCache(text_namespace(family, parts, folder, identity))

    def fill(self, texts: Iterable[str], *, progress: Progress) -> int:
        """Encode what is not there yet and return how much that was."""
        by_key = {text_key(text): text for text in texts}

        @torch.no_grad()
        def encode(keys: Sequence[str]) -> list[TextRow]:
            return self._family.encode_text(self._parts, [by_key[key] for key in keys])

        return self._cache.fill(by_key, encode, batch=self._family.texts_at_once, progress=progress)

    def row(self, text: str) -> TextRow:
        """Return the encoding of a text that is there."""
        return self._cache.get(text_key(text))


def text_key(text: str) -> str:
    """Name an encoded text by itself; the encoder is in the namespace."""
    return content_key("text", text)


def latent_namespace(family: ModelFamily, parts: Parts, folder: Path, identity: ModelIdentity) -> Path:
    """Return where latents lie that the same VAE made, in the same number format."""
    name = f"{family.name}-{_digest(family, parts, identity, 'latents')}-{_formats([parts.vae])}-v{LATENT_VERSION}"
    return folder / "latents" / name


def text_namespace(family: ModelFamily, parts: Parts, folder: Path, identity: ModelIdentity) -> Path:
    """Return where texts lie that the same encoders made, in the same number formats and the same dialect."""
    formats = _formats(parts.text_encoders.values())
    digest = _digest(family, parts, identity, "text")
    return folder / "text" / f"{family.name}{family.dialect(parts)}-{digest}-{formats}-v{TEXT_VERSION}"


def _digest(family: ModelFamily, parts: Parts, identity: ModelIdentity, kind: str) -> str:
    if parts.folder is None:
        return "unsaved"
    return identity.sha256(family.cache_identity(parts.folder)[kind])[:24]


def _formats(modules: Iterable[nn.Module]) -> str:
    """Name the number formats of models: runs in fp32 and in bf16 do not share what they compute."""
    found = {p.dtype for module in modules for p in module.parameters() if p.is_floating_point()}
    return "-".join(sorted(_FORMATS.get(dtype, str(dtype).removeprefix("torch.")) for dtype in found))


def _pixels(shot: Shot, rate: float) -> Tensor:
    """Return (3, H, W), or (3, F, H, W) of a clip."""
    picture = shot.picture
    if picture.frames == 1:
        return load_pixels(picture.item.path, *picture.bucket, flip=shot.flip, corner=shot.corner)
    return load_clip(
        picture.item.path,
        *picture.bucket,
        frames=picture.frames,
        rate=rate,
        flip=shot.flip,
        corner=shot.corner,
    )


def _runs(keys: Sequence[str], group: Callable[[str], object]) -> list[list[str]]:
    """Cut a sequence where the group changes."""
    runs: list[list[str]] = []
    for key in keys:
        if runs and group(runs[-1][-1]) == group(key):
            runs[-1].append(key)
        else:
            runs.append([key])
    return runs
