"""What an architecture must say for itself. The engine does noise, times, targets and the loss.

A family is a subclass of ``ModelFamily`` of 40 to 120 lines: names, ``encode_text``, ``forward``, ``tiny``, and where
it differs from a diffusers pipeline with an AutoencoderKL, the few methods that say how.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import diffusers
import torch
from torch import Tensor, nn
from torch.nn import functional

from training.engine.diffusion import dynamic_shift, process_of, shifted
from training.engine.errors import ConfigurationError
from training.engine.export.table import ExportTable
from training.engine.families import folder as folders
from training.engine.families.parts import DENOISER, Parts

__all__ = ["DENOISER", "ModelFamily", "Parts", "TextRow", "View"]

TextRow = dict[str, Tensor]
"""The encoded form of one prompt, without a batch dimension; a batch of them has one more."""


@dataclasses.dataclass(frozen=True, slots=True)
class View:
    """Say which part of a picture is shown: sizes are (width, height), ``crop`` is (left, top) after scaling."""

    original: tuple[int, int]
    crop: tuple[int, int]
    target: tuple[int, int]

    @classmethod
    def whole(cls, width: int, height: int) -> View:
        """Return the view of a picture that was made in its size."""
        return cls((width, height), (0, 0), (width, height))


BARE = "\x00"
"""A text that begins with it stands without the instruction that its family puts before prompts."""


class ModelFamily(ABC):
    """Describe one architecture; the defaults fit a diffusers pipeline with an AutoencoderKL."""

    name: ClassVar[str]
    title: ClassVar[str]
    pipelines: ClassVar[tuple[str, ...]]
    """Classes of ``model_index.json`` that are this architecture; the first is written by ``save``."""
    denoiser: ClassVar[str] = "transformer"
    text_encoders: ClassVar[tuple[str, ...]] = ("text_encoder",)
    tokenizers: ClassVar[tuple[str, ...]] = ("tokenizer",)
    optional: ClassVar[tuple[str, ...]] = ()
    """Text encoders and tokenizers that a base model may come without: its index then says [null, null]."""
    waiting: ClassVar[tuple[str, ...]] = ()
    """Further denoisers, which stay in the host's memory until one is chosen."""
    trainable_encoders: ClassVar[tuple[str, ...]] = ()
    """Text encoders that may carry adapters."""
    text_dtype: ClassVar[torch.dtype | None] = None
    """Number format of the text encoders; None is that of the denoiser."""
    texts_at_once: ClassVar[int] = 32
    """How many prompts are encoded together; a language model that keeps all its layers' outputs needs room."""
    divisor: ClassVar[int]
    """Pixel sizes of pictures must be multiples of this."""
    frame_step: ClassVar[int] = 0
    """Frames of a clip are a multiple of this and one more; 0 where there are only stills."""
    frame_rate: ClassVar[int] = 0
    """Frames a second that clips are brought to."""
    timestep_sampling: ClassVar[str] = "uniform"
    """Distribution of times where the recipe says "auto"."""
    guidance_default: ClassVar[float] = 7.0
    presets: Mapping[str, Mapping[str, Sequence[str]]]
    """Target preset -> part -> endings of module names that get an adapter."""
    exports: Mapping[str, ExportTable]
    """File layouts that programs read, the usual one first."""
    conversions: Sequence[ExportTable] = ()
    """Further tables by which files are read and converted, though no training writes them."""

    @property
    def tables(self) -> tuple[ExportTable, ...]:
        """List every table by which a file of this architecture may be named, those that are written first."""
        return (*self.exports.values(), *self.conversions)

    # -- loading ---------------------------------------------------------------------------------------------------

    def load(self, folder: Path, *, device: torch.device, dtype: torch.dtype) -> Parts:
        """Load a base model; the denoiser in ``dtype``, the VAE in fp32.

        Raise ConfigurationError if a component is missing or the folder holds another architecture.
        """
        index = folders.read_index(folder)
        self._require_ours(index)
        wanted = [name for name in self.components if name not in self.optional or folders.has(index, name)]
        folders.require_components(folder, [*wanted, "scheduler"])
        config = folders.read_scheduler(folder)
        components: dict[str, Any] = {}
        for name in wanted:
            if name == self.denoiser:
                components[name] = self.load_denoiser(folder, device=device, dtype=dtype)
                continue
            own = torch.float32 if name == "vae" else self.text_dtype or dtype
            found = folders.load_component(folders.component_class(index, name), folder / name, own)
            moves = isinstance(found, nn.Module) and name not in self.waiting
            components[name] = found.to(device) if moves else found
        parts = self._parts(components, config, folder, folders.settings_of(index))
        parts.freeze()
        return parts

    def load_denoiser(
        self, folder: Path, *, device: torch.device, dtype: torch.dtype, name: str | None = None
    ) -> nn.Module:
        """Load only the denoiser, or the component ``name``, fresh, for the verification of an export."""
        component = name or self.denoiser
        cls = folders.component_class(folders.read_index(folder), component)
        module: nn.Module = folders.load_component(cls, folder / component, dtype)
        return module.to(device).requires_grad_(False).eval()

    def save(self, parts: Parts, folder: Path) -> None:
        """Write a base model in the layout that ``load`` reads."""
        folders.save_components(
            {**dict.fromkeys(self.optional), **parts.components}, parts.scheduler_config, self.pipelines[0], folder,
            parts.settings,
        )  # fmt: skip

    @property
    def components(self) -> tuple[str, ...]:
        """List the components of a base model, the scheduler left out."""
        return (self.denoiser, "vae", *self.text_encoders, *self.tokenizers)

    def _parts(
        self, components: dict[str, Any], config: dict[str, Any], folder: Path | None,
        settings: Mapping[str, Any] | None = None,
    ) -> Parts:  # fmt: skip
        encoders = tuple(name for name in self.text_encoders if name in components)
        return Parts(components, self.denoiser, encoders, config, process_of(config), folder, settings or {})

    def _require_ours(self, index: Mapping[str, Any]) -> None:
        found = index.get("_class_name")
        if found in self.pipelines:
            return
        from training.engine.registry import family_of_pipeline

        right = family_of_pipeline(str(found))
        raise ConfigurationError(
            "wrong_family", f"the base model is a {found}, which is not of the family {self.title}",
            hint=f"Choose the family {right!r}." if right else "Choose a base model of this family.",
            patch={"/base_model/family": right} if right else None,
        )  # fmt: skip

    def is_distilled(self, parts: Parts) -> bool:
        """Tell whether a model's own files say that it was distilled to draw in a few steps."""
        return False

    # -- text ------------------------------------------------------------------------------------------------------

    @abstractmethod
    def encode_text(self, parts: Parts, prompts: Sequence[str]) -> list[TextRow]:
        """Encode prompts one row each; keeps gradients when they are enabled."""

    def negative(self, prompt: str) -> str:
        """Return how ``encode_text`` is given what a picture must not show: as it is, or marked as ``BARE``."""
        return prompt

    def collate_text(self, rows: Sequence[TextRow]) -> TextRow:
        """Stack rows to a batch; tensors of different lengths (L, ...) are filled up with zeros at their end."""
        batch: TextRow = {}
        for name in rows[0]:
            tensors = [row[name] for row in rows]
            longest = max(t.shape[0] if t.ndim else 0 for t in tensors)
            batch[name] = torch.stack([
                t if not t.ndim or t.shape[0] == longest
                else functional.pad(t, (*[0, 0] * (t.ndim - 1), 0, longest - t.shape[0]))
                for t in tensors
            ])  # fmt: skip
        return batch

    def geometry(self, parts: Parts, view: View) -> TextRow:
        """Return what the denoiser is told about the view of a picture, as further entries of its row."""
        return {}

    # -- pictures --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def encode_image(self, parts: Parts, pixels: Tensor) -> Tensor:
        """Turn pixels (B, 3, H, W) in [-1, 1] into normalised latents.

        The mode of the posterior: the same picture always has the same latents.
        """
        latents: Tensor = parts.vae.encode(pixels).latent_dist.mode()  # type: ignore[operator]
        return self.normalise(parts, latents)

    def decode_image(self, parts: Parts, latents: Tensor) -> Tensor:
        """Turn normalised latents into pixels (B, 3, H, W) in [-1, 1]."""
        pixels: Tensor = parts.vae.decode(self.denormalise(parts, latents), return_dict=False)[0]  # type: ignore[operator]
        return pixels

    def normalise(self, parts: Parts, latents: Tensor) -> Tensor:
        """Bring the VAE's latents to the scale the denoiser knows, by the VAE's own config."""
        config: Any = parts.vae.config
        scaled: Tensor = (latents - (getattr(config, "shift_factor", None) or 0.0)) * config.scaling_factor
        return scaled

    def denormalise(self, parts: Parts, latents: Tensor) -> Tensor:
        """Undo ``normalise``."""
        config: Any = parts.vae.config
        raw: Tensor = latents / config.scaling_factor + (getattr(config, "shift_factor", None) or 0.0)
        return raw

    def latent_shape(self, parts: Parts, width: int, height: int) -> tuple[int, ...]:
        """Return the shape of the latents of one picture, without batch: (C, H / f, W / f)."""
        config: Any = parts.vae.config
        factor = 2 ** (len(config.block_out_channels) - 1)
        return (config.latent_channels, height // factor, width // factor)

    def require_frames(self, frames: int) -> None:
        """Raise ConfigurationError unless clips of so many frames can be trained on."""
        if frames == 1:
            return
        if not self.frame_step:
            raise ConfigurationError(
                "no_clips", f"{self.title} is trained on stills, not on clips",
                hint="Set the frames per clip to 1.", patch={"/training/frames": 1},
            )  # fmt: skip
        near = max(1, round((frames - 1) / self.frame_step)) * self.frame_step + 1
        if near != frames:
            raise ConfigurationError(
                "frames_do_not_fit", f"{self.title} takes clips of {self.frame_step}k + 1 frames, not of {frames}",
                hint=f"Set the frames per clip to {near}.", patch={"/training/frames": near},
            )  # fmt: skip

    def clip_shape(self, parts: Parts, width: int, height: int, frames: int) -> tuple[int, ...]:
        """Return the shape of the latents of a clip, without batch; of one frame that of a picture."""
        return self.latent_shape(parts, width, height)

    # -- denoising -------------------------------------------------------------------------------------------------

    @abstractmethod
    def forward(self, parts: Parts, noised: Tensor, t: Tensor, text: TextRow) -> Tensor:
        """Predict what ``parts.process`` calls the target, in the shape of ``noised``; ``t`` are its times (B,)."""

    def is_told_guidance(self, parts: Parts) -> bool:
        """Tell whether the denoiser takes guidance as a number, ``guidance`` of its text, and is not asked twice."""
        return False

    def guided(self, plain: Tensor, prompted: Tensor, guidance: float) -> Tensor:
        """Return what to follow of two predictions (B, ...): without the prompt, and with it (Ho and Salimans 2022)."""
        return plain + guidance * (prompted - plain)

    def tokens(self, latent_shape: Sequence[int]) -> int:
        """Return how many tokens a picture is: patches of 2 x 2 latents unless the family says otherwise."""
        return (latent_shape[-2] // 2) * (latent_shape[-1] // 2)

    def shift(self, parts: Parts, latent_shape: Sequence[int]) -> float:
        """Return how far times are moved towards noise for a picture of that size; 1 for discrete processes."""
        if parts.process.objective != "flow":
            return 1.0
        return dynamic_shift(parts.scheduler_config, self.tokens(latent_shape))

    def drawing_shift(self, parts: Parts, latent_shape: Sequence[int], steps: int) -> float:
        """Return the shift of ``sampler``, where that is another than training's."""
        return self.shift(parts, latent_shape)

    def sampler(self, parts: Parts, steps: int, latent_shape: Sequence[int]) -> Any:
        """Return a diffusers scheduler ready for ``steps`` deterministic steps."""
        if parts.process.objective == "flow":
            # Of a single step the first level is the last: there is nothing to stretch.
            last = parts.scheduler_config.get("shift_terminal") if steps > 1 else None
            scheduler: Any = diffusers.FlowMatchEulerDiscreteScheduler(shift=1.0, shift_terminal=last)
            shift = self.drawing_shift(parts, latent_shape, steps)
            levels = shifted(torch.linspace(1.0, 1.0 / steps, steps), shift)
            scheduler.set_timesteps(sigmas=levels.tolist())
            return scheduler
        # DDIM's default of clipping is wrong for latents; the pipelines switch it off likewise.
        config = {**parts.scheduler_config, "_class_name": "DDIMScheduler", "clip_sample": False}
        ddim: Any = diffusers.DDIMScheduler.from_config(config)
        ddim.set_timesteps(steps)
        return ddim

    # -- identity --------------------------------------------------------------------------------------------------

    def cache_identity(self, folder: Path) -> Mapping[str, Sequence[Path]]:
        """Return which folders decide ``latents`` and ``text``, to key the caches by content."""
        return {
            "latents": [folder / "vae"],
            "text": [folder / name for name in (*self.text_encoders, *self.tokenizers)],
        }

    def dialect(self, parts: Parts) -> str:
        """Name how text is encoded, where models of the family with the same encoder differ in it; part of the key."""
        return ""

    @abstractmethod
    def metadata(self, parts: Parts) -> Mapping[str, str]:
        """Return the ``ss_*`` and ``modelspec.*`` entries that name the architecture."""

    @abstractmethod
    def tiny(self) -> Parts:
        """Build a random model of this architecture, offline, small enough for a test."""
