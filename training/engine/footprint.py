"""How much memory a run takes, on the device and on the host, from the sizes of its base model (``profiles``).

A run has three peaks: encoding the pictures, training, and drawing samples. Each is a sum of parts that are computed
from numbers of weights and tokens; the few constants say what they count. Nothing here imports torch.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Literal

from training.engine.memory_plan import QUANTISED_BYTES
from training.engine.profiles import TARGETS, ModelProfile
from training.engine.spec import RunSpec
from training.engine.training_section import CHECKPOINTING

MB = 2.0**20
CONTEXT_MB = 600.0
"""The driver's context and the libraries' workspaces on a GPU (300 to 500 MB, and 100 MB of workspaces)."""

WEIGHT_BYTES = {
    "fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "fp8": 1.0, **QUANTISED_BYTES,
    # Of other trainers: a scale and a zero in bf16 for 128 weights.
    "int4": 0.5 + 4 / 128, "int3": 0.375 + 4 / 128, "int2": 0.25 + 4 / 128,
}  # fmt: skip
"""Bytes of one frozen weight by number format, its share of the scales included."""

OPTIMIZER_NUMBERS = {
    "adamw": 2.0, "adamw-8bit": 0.5, "adafactor": 0.0, "came": 1.0, "lion": 1.0, "lion-8bit": 0.25, "prodigy": 4.0,
    "schedule-free": 2.0,
}  # fmt: skip
"""State of an optimizer for each trained weight, in numbers of the adapter's format; a plugin's counts as AdamW's."""
METHOD_FACTORS = {"loha": 2.0, "lokr": 0.1, "textual_inversion": 0.0}
"""Trained weights beside a LoRA's of the same rank: LoHa has two pairs, LoKr small ones, a new word a few rows."""
OFFLOADED = 0.9
"""Share of a denoiser's weights that offloading keeps on the host: all but two blocks of some dozens."""

WORKING = 12.0
"""Widths of gradients alive at once in a backward pass: both sides of the feed-forward (4 + 4), q, k, v, the stream."""
ENDS = 3.0
"""Widths kept before the first and after the last block: the embedded tokens, the last norm's input and output."""
FP32_FACTOR = 1.5
"""Numbers are twice as wide in fp32, but the copies that autocast makes fall away: about a quarter of them."""
ENCODER_KEPT_MB = 0.5
"""What a trained text encoder keeps for a caption, for each million of its weights (CLIP: 62 MB of 123 M)."""
ENCODED_PIXELS = 8 * 512 * 512
"""Pixels encoded at once while the cache is filled (``data.dataset``); one picture that is larger goes alone."""
ENCODING_TENSORS, DECODING_TENSORS = 4, 7
"""Full-size fp32 tensors of the VAE's outermost level alive at once; the decoder enters it at twice the width."""
PROCESS_MB, GPU_LIBRARIES_MB = 1000.0, 1500.0
"""Host memory of a training process before any weight: Python and torch; and the GPU's libraries, once loaded."""


@dataclasses.dataclass(frozen=True, slots=True)
class Setup:
    """Say how a run is computed, as far as memory depends on it.

    ``weights`` is the format of the frozen denoiser (``WEIGHT_BYTES``), ``checkpointing`` a level of ``CHECKPOINTING``,
    ``state_numbers`` the optimizer's for each trained weight; ``offload`` the share of the denoiser that rests on the
    host. ``encoders`` are "freed" after caching, "kept" on the device or "trained", in ``encoder_weights`` ("": as the
    profile says); ``adapter_bytes`` is the width of a trained weight, ``adapter_share`` how many there are beside a
    LoRA's. ``together`` means that encoders and denoiser are
    on the device at once while caching. The defaults are this engine's ways; other trainers drop the VAE too, and some
    figures of theirs leave the context out, which their allocator does not see.
    """

    resolution: int = 1024
    batch: int = 1
    frames: int = 1
    rank: int = 16
    targets: str = "attn-mlp"
    weights: str = "bf16"
    checkpointing: str = "off"
    state_numbers: float = 2.0
    adapter_bytes: int = 4
    adapter_share: float = 1.0
    encoders: Literal["freed", "kept", "trained"] = "freed"
    encoder_weights: str = ""
    offload: float = 0.0
    on_gpu: bool = True
    together: bool = True
    keeps_vae: bool = True
    counts_context: bool = True
    sample_px: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Memory:
    """Give the parts of one peak in MB (2^20 bytes)."""

    weights: float
    adapter: float
    kept: float
    working: float
    other: float

    @property
    def total(self) -> int:
        """Return the peak in whole MB."""
        return math.ceil(self.weights + self.adapter + self.kept + self.working + self.other)


def ways(spec: RunSpec, *, weight_bytes: int = 2) -> Iterator[Setup]:
    """Yield the ways in which a specification may be computed, the fastest first; ``auto`` settings make several.

    ``weight_bytes`` is the width that ``auto`` precision has on the device. The order is that of ``memory_plan``.
    """
    training, method = spec.training, spec.method
    on_gpu = weight_bytes != 4
    plain = {"auto": "bf16" if on_gpu else "fp32"}.get(training.precision, training.precision)
    levels = (
        CHECKPOINTING if training.gradient_checkpointing == "auto" else (training.gradient_checkpointing,)
    )
    kinds = ("none", *QUANTISED_BYTES) if spec.base_model.quantise == "auto" else (spec.base_model.quantise,)
    away = ("off", "on") if training.offload == "auto" else (training.offload,)
    trains_encoder = method.text_encoder or method.type == "textual_inversion"
    plugin = OPTIMIZER_NUMBERS["adamw"]
    numbers = OPTIMIZER_NUMBERS.get(training.optimizer, plugin) + (training.ema_decay is not None)
    for offload in away if on_gpu else ("off",):
        for kind in kinds:
            for level in levels if offload == "off" else CHECKPOINTING[-1:]:
                yield Setup(
                    resolution=training.sizes[0], frames=training.frames, batch=training.batch_size, rank=method.rank,
                    targets=method.targets, weights=plain if kind == "none" else kind, checkpointing=level,
                    state_numbers=numbers, adapter_share=METHOD_FACTORS.get(method.type, 1.0),
                    encoders="trained" if trains_encoder else "freed", on_gpu=on_gpu,
                    offload=OFFLOADED if offload == "on" else 0.0,
                    # What has to be changed before it goes to the device waits on the host while caches are filled.
                    together=(kind, offload) == ("none", "off"),
                    sample_px=training.resolution if spec.sampling.prompts else 0,
                )  # fmt: skip


def fitted(model: ModelProfile, spec: RunSpec, most_mb: float, *, weight_bytes: int = 2) -> Setup:
    """Return the fastest way that needs at most so many MB, the one that needs least if none does."""
    every = list(ways(spec, weight_bytes=weight_bytes))
    fitting = next((setup for setup in every if peak(model, setup).total <= most_mb), None)
    return fitting or min(every, key=lambda setup: peak(model, setup).total)


def adapter_weights(model: ModelProfile, rank: int, targets: str) -> float:
    """Return how many weights a LoRA of that rank has on a set of layers."""
    place = TARGETS.index(targets)
    return sum(rank * group.width * group.count * group.factors[place] for group in model.blocks)


def adapted_layers(model: ModelProfile, targets: str) -> int:
    """Return how many layers of the denoiser carry an adapter."""
    place = TARGETS.index(targets)
    return sum(group.count * group.layers[place] for group in model.blocks)


def training_peak(model: ModelProfile, setup: Setup) -> Memory:
    """Return what training takes on the device."""
    numbers = 2.0 + setup.state_numbers  # the weight, its gradient, the optimizer's state
    trained = adapter_weights(model, setup.rank, setup.targets) * setup.adapter_share
    adapter = trained * setup.adapter_bytes * numbers
    tokens = model.tokens(setup.resolution, setup.frames) * setup.batch
    width = 2.0 * (FP32_FACTOR if setup.weights == "fp32" else 1.0)
    working = WORKING * max(group.width for group in model.blocks) * tokens * width
    other = _resting_mb(model, setup, training=True)
    if setup.encoders == "trained":
        other += ENCODER_KEPT_MB * model.encoders_m * setup.batch
    return Memory(
        weights=_denoiser_mb(model, setup),
        adapter=adapter / MB,
        kept=_kept_numbers(model, setup) * tokens * width / MB,
        working=working / MB,
        other=other,
    )


def caching_peak(model: ModelProfile, setup: Setup) -> Memory:
    """Return what encoding pictures and captions takes on the device, before the first step."""
    pixels = max(ENCODED_PIXELS, setup.resolution**2)
    denoiser = _denoiser_mb(model, setup) if setup.together else 0.0
    return Memory(
        weights=denoiser + _encoders_mb(model, setup), adapter=0.0, kept=0.0,
        working=ENCODING_TENSORS * model.vae_channels * 4.0 * pixels / MB,
        other=_resting_mb(model, setup, training=False),
    )  # fmt: skip


def sampling_peak(model: ModelProfile, setup: Setup) -> Memory:
    """Return what drawing and decoding one sample of ``sample_px`` pixels a side takes on the device."""
    training = training_peak(model, dataclasses.replace(setup, batch=0))
    decoding = DECODING_TENSORS * model.vae_channels * 4.0 * setup.sample_px**2
    return dataclasses.replace(training, kept=0.0, working=decoding / MB)


def peak(model: ModelProfile, setup: Setup) -> Memory:
    """Return the largest of the three peaks."""
    peaks = [caching_peak(model, setup), training_peak(model, setup)]
    if setup.sample_px:
        peaks.append(sampling_peak(model, setup))
    return max(peaks, key=lambda memory: memory.total)


def host_mb(model: ModelProfile, setup: Setup) -> int:
    """Return the host memory a run on a GPU takes in MB: weights pass through it while they are loaded.

    The encoders rest there after caching; a quantised denoiser is there whole and in its new form at once.
    """
    if not setup.on_gpu:
        return peak(model, setup).total
    weight = WEIGHT_BYTES[setup.weights]
    denoiser = _denoiser_bytes(model, max(weight, 2.0))
    if weight < 2.0:
        denoiser += _denoiser_bytes(model, weight)
    return math.ceil(PROCESS_MB + GPU_LIBRARIES_MB + _encoders_mb(model, setup) + denoiser / MB)


def _denoiser_mb(model: ModelProfile, setup: Setup) -> float:
    """Return the frozen denoiser, and one layer as it is written out for its product where it is quantised."""
    weight = WEIGHT_BYTES[setup.weights]
    written_out = 4.0 * max(group.width for group in model.blocks) ** 2 * 2.0 if weight < 2.0 else 0.0
    return (_denoiser_bytes(model, weight) * (1.0 - setup.offload) + written_out) / MB


def _denoiser_bytes(model: ModelProfile, weight: float) -> float:
    """Return the weights at a width; only linear layers within blocks can be narrower than two bytes."""
    linear = model.linear_share if weight < 2.0 else 1.0
    return model.denoiser_m * 1e6 * (linear * weight + (1.0 - linear) * 2.0)


def _encoders_mb(model: ModelProfile, setup: Setup) -> float:
    width = WEIGHT_BYTES[setup.encoder_weights] if setup.encoder_weights else float(model.encoder_bytes)
    return model.encoders_m * 1e6 * width / MB


def _resting_mb(model: ModelProfile, setup: Setup, *, training: bool) -> float:
    """Return what lies beside the denoiser: the context, the VAE in fp32, and the encoders where they stay."""
    encoders = _encoders_mb(model, setup) if training and setup.encoders != "freed" else 0.0
    vae = model.vae_m * 4e6 / MB if setup.keeps_vae or not training else 0.0
    if not setup.counts_context:
        return encoders + vae
    return (CONTEXT_MB if setup.on_gpu else PROCESS_MB) + encoders + vae


def _kept_numbers(model: ModelProfile, setup: Setup) -> float:
    """Return the two-byte numbers one token leaves for the backward pass."""
    place = TARGETS.index(setup.targets)
    ends = ENDS * model.blocks[0].width
    whole = sum(group.count * group.width * group.kept[place] for group in model.blocks)
    if setup.checkpointing == "off":
        return whole + ends
    saved = sum(group.count * group.width * group.saved for group in model.blocks)
    again = max(group.width * (group.widest or group.kept[place]) for group in model.blocks)
    if setup.checkpointing == "blocks":
        return (whole + saved) / 2 + ends  # every other block
    return saved + again + ends
