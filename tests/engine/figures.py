"""Published figures of memory, each with the run it was published for. `figure_tables` compares them with ours.

GB are taken as GiB, as cards and nvidia-smi count them. Where a source leaves
something open, the setting is 1024 pixels, rank 16, batch 1, gradient checkpointing, and the tool's documented ways:
SimpleTuner trains a bf16 adapter and drops VAE and encoders, sd-scripts and musubi-tuner drop both once they are
cached, ai-toolkit keeps the encoders in 8 bits.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from training.engine.footprint import OPTIMIZER_NUMBERS as STATE
from training.engine.footprint import Setup, training_peak
from training.engine.profiles import MODELS, Blocks, ModelProfile

WITHIN = 0.15
Kind = Literal["measured", "stated", "card"]


@dataclasses.dataclass(frozen=True)
class Figure:
    """Be one published number (or range) of GB.

    "measured" was read off a device in a run whose settings are known; "stated" is a guide's number without them;
    "card" is the size of the cards that a setting is said to fit.
    """

    source: str
    run: str
    low: float
    high: float
    model: ModelProfile
    setup: Setup
    kind: Kind

    @property
    def ours(self) -> float:
        """Return what we say, in GB."""
        return training_peak(self.model, self.setup).total / 1024

    @property
    def ratio(self) -> float:
        """Return ours divided by the nearer end of what was published; 1 inside a range."""
        return self.ours / min(max(self.ours, self.low), self.high)

    @property
    def is_within(self) -> bool:
        """Tell whether we are within 15 %."""
        return abs(self.ratio - 1.0) <= WITHIN


def _other(
    title: str, weights: float, encoders: float, blocks: tuple[Blocks, ...], **more: Any
) -> ModelProfile:
    return ModelProfile(title, weights, encoders, 84.0, blocks, **more)


FLUX_DOUBLE, FLUX_SINGLE = MODELS["flux"].blocks
OTHERS = {
    "Krea 2": _other("Krea 2", 13150, 4440, (Blocks(28, 6144, 434, (25.5, 29.5, 29.5), (8.5, 30, 30)),),
                     text_tokens=128),
    "HiDream": _other(
        "HiDream-I1", 17106, 14400, (
            Blocks(16, 2560, 250, (22.1, 27.1, 27.1), (16, 36, 36)),
            Blocks(32, 2560, 250, (20.1, 25.1, 25.1), (8, 30, 30)),
        ), text_tokens=384,
    ),
    "HunyuanImage": _other(
        "HunyuanImage 2.1", 17411, 8150, (
            dataclasses.replace(FLUX_DOUBLE, count=20, width=3584),
            dataclasses.replace(FLUX_SINGLE, count=40, width=3584),
        ), token_px=32,
    ),
    "AuraFlow": _other("AuraFlow", 6833, 1300, (Blocks(36, 3072, 113, (20.1, 25.1, 25.1), (16, 30, 30)),),
                       text_tokens=256),
    "Kolors": dataclasses.replace(MODELS["sdxl"], title="Kolors", denoiser_m=2580),
    "LTX-2": _other(
        "LTX-2", 18876, 12000, (Blocks(48, 4096, 350, (28.1, 33.1, 33.1), (16, 26, 26)),), token_px=32, token_frames=8,
        joint=False,
    ),
}  # fmt: skip
"""Models that this engine does not train, from diffusers' configurations, with what like blocks keep."""

CHECKPOINTED: dict[str, Any] = {"checkpointing": "all"}
KOHYA: dict[str, Any] = {**CHECKPOINTED, "keeps_vae": False, "state_numbers": STATE["adamw-8bit"]}
SIMPLETUNER: dict[str, Any] = {**CHECKPOINTED, "keeps_vae": False, "adapter_bytes": 2}
SWEEP: dict[str, Any] = {**SIMPLETUNER, "counts_context": False, "targets": "attn"}
AI_TOOLKIT: dict[str, Any] = {
    **CHECKPOINTED,
    "state_numbers": STATE["adamw-8bit"],
    "encoders": "kept",
    "encoder_weights": "int8",
}
LYCORIS: dict[str, Any] = {
    "weights": "fp16", "resolution": 512, "batch": 8, "state_numbers": STATE["adamw-8bit"],
    "encoders": "trained", "encoder_weights": "fp16",
}  # fmt: skip

FIGURES: list[Figure] = []


def _add(
    source: str, kind: Kind, model: str, *rows: tuple[str, float | tuple[float, float], dict[str, Any]]
) -> None:
    for run, value, settings in rows:
        low, high = value if isinstance(value, tuple) else (value, value)
        profile = MODELS.get(model) or OTHERS[model]
        FIGURES.append(Figure(source, f"{profile.title} {run}", low, high, profile, Setup(**settings), kind))


def _quantised(
    values: dict[str, float | tuple[float, float]], **settings: Any
) -> list[tuple[str, Any, dict[str, Any]]]:
    return [(f"{weights}", value, {**settings, "weights": weights}) for weights, value in values.items()]


_add(
    "LyCORIS Guidelines.md", "measured", "sd",
    ("512, batch 8, rank 1", 15.0, {**LYCORIS, "rank": 1}), ("512, batch 8, rank 64", 16.2, {**LYCORIS, "rank": 64}),
    ("512, batch 8, all layers, rank 64", 17.4, {**LYCORIS, "rank": 64, "targets": "all"}),
)  # fmt: skip
_add("sd-scripts train_network_README-zh.md", "card", "sd", ("512", 8, {**LYCORIS, "batch": 1}))
_add("sd-scripts train_SDXL-en.md", "card", "sdxl", ("1024, rank 8", 8, {**KOHYA, "rank": 8}))
_add(
    "sd-scripts#661", "card", "sdxl",
    ("1024, rank 256, Adafactor", 12, {**KOHYA, "rank": 256, "state_numbers": STATE["adafactor"], "adapter_bytes": 2}),
    ("1024, rank 32 with encoders, Adafactor", 12,
     {**KOHYA, "rank": 32, "state_numbers": STATE["adafactor"], "adapter_bytes": 2, "encoders": "trained",
      "encoder_weights": "bf16"}),
)  # fmt: skip
LEAST: dict[str, Any] = {
    **SIMPLETUNER,
    "weights": "nf4",
    "state_numbers": STATE["lion-8bit"],
    "targets": "all",
}
_add(
    "SimpleTuner FLUX.md", "stated", "flux",
    *_quantised({"bf16": 30, "int8": 18, "int4": 13, "nf4": 9, "int2": 9}, **{**SIMPLETUNER, "targets": "all"}),
    ("nf4, 512, 8-bit Lion", 9.1, {**LEAST, "resolution": 512}), ("nf4, 1024, 8-bit Lion", 12, LEAST),
)  # fmt: skip
# So many blocks are swapped that each double block counts as two single ones (0.34 to 0.14 of 11.9 thousand million).
_add(
    "sd-scripts flux_train_network.md", "card", "flux",
    ("fp8, batch 2", 24, {**KOHYA, "weights": "fp8", "batch": 2}), ("fp8, batch 1", 16, {**KOHYA, "weights": "fp8"}),
    *((f"fp8, {n} blocks swapped", size, {**KOHYA, "weights": "fp8", "offload": 0.0262 * n})
      for n, size in ((16, 12), (22, 10), (28, 8))),
)  # fmt: skip
_add("kohya_ss#2701", "measured", "flux", ("fp8, 512", 15.3, {**KOHYA, "weights": "fp8", "resolution": 512}))
_add(
    "sd-scripts PR#1374", "measured", "flux",
    *_quantised({"bf16": 44.2, "fp8": 33.5}, **CHECKPOINTED, rank=128, encoders="kept", targets="all"),
)  # fmt: skip
_add("ai-toolkit#105", "card", "flux", ("int8, 512 to 1024", 24, {**AI_TOOLKIT, "weights": "int8"}))
_add(
    "x-flux#12",
    "measured",
    "flux",
    ("1024, encoders loaded", 41.8, {**CHECKPOINTED, "targets": "attn", "encoders": "kept"}),
)
_add("SimpleTuner FLUX2.md", "stated", "flux2-klein", *_quantised({"bf16": 12, "int8": 8}, **SIMPLETUNER))
_add("SimpleTuner FLUX2.md", "stated", "flux2-klein-9b", *_quantised({"bf16": 22, "int8": 14}, **SIMPLETUNER))
_add(
    "SimpleTuner FLUX2.md", "stated", "flux2",
    ("bf16 everything", 76, {**SIMPLETUNER, "encoders": "kept"}),
    ("int8 everything", 40, {**SIMPLETUNER, "encoders": "kept", "weights": "int8", "encoder_weights": "int8"}),
    ("int8, encoder int4", 22, {**SIMPLETUNER, "encoders": "kept", "weights": "int8", "encoder_weights": "int4"}),
)  # fmt: skip
_add(
    "ai-toolkit PR#666, #653", "card", "flux2-klein-9b",
    ("fp8, 60 % offloaded", 16, {**KOHYA, "weights": "fp8", "offload": 0.6}),
    ("fp8, 60 % offloaded, 64 GB of RAM", 12, {**KOHYA, "weights": "fp8", "offload": 0.6}),
)  # fmt: skip
_add(
    "SimpleTuner CHROMA.md", "stated", "chroma",
    *_quantised({"bf16": 28, "int8": 16, "int4": 11, "nf4": 8}, **SIMPLETUNER),
)  # fmt: skip
_add(
    "musubi-tuner qwen_image.md", "stated", "qwen-image",
    *_quantised({"bf16": 42, "fp8": 30}, **KOHYA),
    ("fp8, 16 of 60 blocks swapped", 24, {**KOHYA, "weights": "fp8", "offload": 16 / 60}),
    ("fp8, 45 of 60 blocks swapped", 12, {**KOHYA, "weights": "fp8", "offload": 45 / 60}),
)  # fmt: skip
MUSUBI: dict[str, Any] = {
    **KOHYA,
    "weights": "fp8",
    "resolution": 1328,
    "state_numbers": STATE["adafactor"],
}
_add(
    "musubi-tuner#715", "measured", "qwen-image",
    ("fp8, 1328, rank 128 (OneTrainer)", 29, {**MUSUBI, "rank": 128}),
    ("fp8, 1328, rank 128", 35, {**MUSUBI, "rank": 128}),
    ("fp8, 1328, rank 128, 7 blocks swapped", 31, {**MUSUBI, "rank": 128, "offload": 7 / 60}),
    ("fp8, 1328, rank 4", 25, {**MUSUBI, "rank": 4}),
)  # fmt: skip
_add("ai-toolkit yaml", "card", "qwen-image", ("3 bits, encoder cached", 24, {**KOHYA, "weights": "int3"}))
_add(
    "flymyai-lora-trainer#29", "measured", "qwen-image",
    *((f"int8, 1024, batch {n}, encoder loaded", size,
       {**CHECKPOINTED, "weights": "int8", "state_numbers": STATE["adamw-8bit"], "encoders": "kept", "batch": n})
      for n, size in ((1, 40), (4, 59))),
)  # fmt: skip
_add(
    "SimpleTuner ZIMAGE.md", "stated", "z-image",
    *_quantised({"bf16": (32, 40), "int8": (16, 24), "nf4": (10, 12)}, **SIMPLETUNER),
)  # fmt: skip
_add("ai-toolkit#550", "card", "z-image", ("int8, 768", 12, {**KOHYA, "weights": "int8", "resolution": 768}))
ONETRAINER: dict[str, Any] = {**CHECKPOINTED, "weights": "int8", "resolution": 512, "batch": 2}
for _name in ("z-image", "flux2-klein-9b", "chroma"):
    _add(
        "OneTrainer presets", "card", _name,
        ("int8, 512, batch 2, 65 % offloaded", 8, {**ONETRAINER, "offload": 0.65}),
        ("int8, 512, batch 2", 16, ONETRAINER),
    )  # fmt: skip
_add(
    "OneTrainer preset", "card", "Krea 2",
    ("int8, 512, batch 2, 30 % offloaded", 16, {**ONETRAINER, "offload": 0.3}),
)  # fmt: skip
_add(
    "ai-toolkit yaml",
    "measured",
    "HiDream",
    ("int8, rank 32", 35.2, {**AI_TOOLKIT, "weights": "int8", "rank": 32}),
)
_add(
    "OneTrainer",
    "card",
    "HiDream",
    ("fp8, 50 % offloaded", 24, {**CHECKPOINTED, "weights": "fp8", "offload": 0.5}),
)
_add(
    "SimpleTuner HIDREAM.md",
    "stated",
    "HiDream",
    ("nf4, lowest", (20, 22), {**SIMPLETUNER, "weights": "nf4"}),
)
_add(
    "sd-scripts hunyuan_image_train_network.md", "card", "HunyuanImage",
    ("bf16, 2048", 40, {**KOHYA, "resolution": 2048}),
    *((f"fp8, 2048, {n} of 60 blocks swapped", size,
       {**KOHYA, "weights": "fp8", "resolution": 2048, "offload": n / 40})
      for n, size in ((9, 24), (32, 12), (37, 8))),
)  # fmt: skip
_add("SimpleTuner LUMINA2.md", "stated", "lumina2", ("bf16", (12, 14), SIMPLETUNER))
_add("ai-toolkit yaml", "card", "lumina2", ("bf16", 20, AI_TOOLKIT))
_add("SimpleTuner guide", "stated", "sana", ("lowest", 12, SIMPLETUNER))
_add(
    "SimpleTuner guide",
    "stated",
    "Kolors",
    ("int2, rank 1", 13.9, {**SIMPLETUNER, "weights": "int2", "rank": 1}),
)
_add(
    "SimpleTuner guide",
    "stated",
    "sd3",
    ("int2, rank 1", 13.9, {**SIMPLETUNER, "weights": "int2", "rank": 1}),
)
_add(
    "SimpleTuner guide", "stated", "AuraFlow", ("int8, lowest", (20, 22), {**SIMPLETUNER, "weights": "int8"})
)
_add(
    "SimpleTuner WAN.md",
    "card",
    "wan",
    ("int8, one frame", 16, {**SIMPLETUNER, "weights": "int8", "resolution": 640}),
)
_add(
    "SimpleTuner LTXVIDEO.md",
    "card",
    "ltx",
    ("49 frames", 16, {**SIMPLETUNER, "resolution": 480, "frames": 49}),
)
_LTX2: dict[str, Any] = {**SIMPLETUNER, "resolution": 950, "frames": 49}
_add(
    "SimpleTuner LTXVIDEO2.md", "stated", "LTX-2",
    ("weights on the host", 13, {**_LTX2, "offload": 1.0}), ("int8", (29, 30), {**_LTX2, "weights": "int8"}),
    ("bf16", 48, _LTX2),
)  # fmt: skip

# SimpleTuner's SEGMENTED_CHECKPOINTING.md, with the resolution, rank and batch of the example configurations it names
# (Z-Image, Krea 2, Chroma and Lumina 2 train on 512 pixels there, whatever their heading says).
_add(
    "SimpleTuner sweep", "measured", "z-image",
    *((f"512, rank 64, {weights}, checkpointing {level}", size,
       {**SWEEP, "resolution": 512, "rank": 64, "state_numbers": STATE["lion"], "weights": weights,
        "checkpointing": level})
      for weights, level, size in (("bf16", "off", 21.25), ("bf16", "blocks", 16.88), ("bf16", "all", 12.87),
                                   ("int8", "off", 15.60), ("int8", "all", 7.25), ("fp8", "all", 7.93))),
)  # fmt: skip
_add(
    "SimpleTuner sweep", "measured", "sdxl",
    *((f"1024, checkpointing {level}", size, {**SWEEP, "targets": "attn-mlp", "checkpointing": level})
      for level, size in (("off", 13.03), ("all", 6.53))),
)  # fmt: skip
_add(
    "SimpleTuner sweep", "measured", "Krea 2",
    *((f"512, rank 64, checkpointing {level}", size,
       {**SWEEP, "resolution": 512, "rank": 64, "state_numbers": STATE["lion"], "checkpointing": level})
      for level, size in (("off", 40.09), ("blocks", 34.75), ("all", 30.06))),
)  # fmt: skip
_add(
    "SimpleTuner KREA2.md", "measured", "Krea 2",
    *((f"1024, {weights}", size, {**SWEEP, "rank": 64, "state_numbers": STATE["lion"], "weights": weights})
      for weights, size in (("bf16", 33.3), ("int8", 20.4))),
)  # fmt: skip
_add(
    "SimpleTuner sweep", "measured", "qwen-image",
    *((f"1024, rank 8, {weights}", size, {**SWEEP, "rank": 8, "state_numbers": STATE["lion"], "weights": weights})
      for weights, size in (("bf16", 41.04), ("int8", 24.09))),
)  # fmt: skip
_add(
    "SimpleTuner sweep", "measured", "sd",
    *((f"512, checkpointing {level}", size, {**SWEEP, "resolution": 512, "checkpointing": level})
      for level, size in (("off", 2.87), ("all", 1.98))),
)  # fmt: skip
_add(
    "SimpleTuner sweep", "measured", "chroma",
    *((f"512, {weights}, checkpointing {level}", size,
       {**SWEEP, "resolution": 512, "weights": weights, "checkpointing": level})
      for weights, level, size in (("bf16", "off", 26.18), ("bf16", "all", 17.67), ("int8", "off", 21.42),
                                   ("int8", "all", 10.41))),
)  # fmt: skip
_add(
    "SimpleTuner sweep", "measured", "lumina2",
    *((f"512, batch 2, {weights}, checkpointing {level}", size,
       {**SWEEP, "resolution": 512, "batch": 2, "weights": weights, "checkpointing": level})
      for weights, level, size in (("bf16", "off", 15.99), ("bf16", "all", 6.60), ("int8", "all", 4.21))),
)  # fmt: skip
_add(
    "SimpleTuner sweep", "measured", "sd3",
    *((f"1024, batch 3, rank 128, checkpointing {level}", size,
       {**SWEEP, "batch": 3, "rank": 128, "checkpointing": level}) for level, size in (("off", 34.59), ("all", 7.67))),
)  # fmt: skip
_add(
    "SimpleTuner sweep", "measured", "wan-1.3b",
    *((f"832 x 480, 81 frames, weights on the host, checkpointing {level}", size,
       {**SWEEP, "resolution": 632, "frames": 81, "offload": 1.0, "checkpointing": level})
      for level, size in (("off", 71.9), ("all", 4.73))),
)  # fmt: skip
_add(
    "SimpleTuner sweep", "measured", "ltx",
    *((f"480, 49 frames, checkpointing {level}", size,
       {**SWEEP, "resolution": 480, "frames": 49, "checkpointing": level})
      for level, size in (("off", 8.77), ("all", 4.21))),
)  # fmt: skip

NOT_COMPARED = (
    ("SDXL full fine-tune 16-19 GB", "every weight is trained there; we train adapters"),
    (
        "SD 3.5 and FLUX.1 int8 out of memory on 16 GB unless quantised on the CPU",
        "no number; see the host table",
    ),
    (
        "Hunyuan Video, ACE-Step, DeepFloyd IF, language models",
        "models of another kind, none of whose blocks was counted",
    ),
    (
        "HiDream 36.9 after 59.9 GB, compiled Krea 2, activations offloaded",
        "techniques this engine does not have",
    ),
)
"""Figures of the same lists that were left out, and why."""


def within(kind: Kind | None = None) -> tuple[int, int]:
    """Return how many figures (of a kind) are within 15 %, and how many there are."""
    chosen = [figure for figure in FIGURES if kind in (None, figure.kind)]
    return sum(figure.is_within for figure in chosen), len(chosen)
