"""The sections of a recipe: each a frozen dataclass whose settings know their label, limits and unit.

Those about pictures and captions are in ``data_sections``, the learning itself in ``training_section``.
``spec`` puts them together and knows what they mean to each other. Nothing here imports torch.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Literal

from training.engine.fields import gettext_noop as _
from training.engine.fields import setting

Precision = Literal["auto", "fp32", "bf16"]


HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?")
"""owner/repository, with @revision for another than its main one."""


def is_hub_name(path: str) -> bool:
    """Tell whether a base model's path is meant as a repository of the Hugging Face hub."""
    return bool(HUB_NAME.fullmatch(path)) and not path.endswith(".safetensors")


@dataclasses.dataclass(frozen=True, slots=True)
class BaseModelSpec:
    """Name the model that the LoRA is trained on."""

    path: str = setting(
        kind="path",
        label=_("Base model"),
        help=_(
            "Folder in diffusers layout, one .safetensors checkpoint, or owner/name on the Hugging Face hub."
        ),
        advanced=False,
    )
    config: str | None = setting(
        None, kind="path", label=_("Configuration of the base model"),
        help=_("For a single checkpoint: a diffusers folder of the same architecture, weights not needed."),
    )  # fmt: skip
    family: str = setting(
        "sd", kind="str", label=_("Model family"), help=_("Architecture of the base model, for example sd.")
    )


@dataclasses.dataclass(frozen=True, slots=True)
class TrainedBaseSpec(BaseModelSpec):
    """Say also how the base model is held while a LoRA is trained on it, and what undoes a distillation meanwhile."""

    quantise: str = setting(
        "none", kind="choice", choices=("none", "int8", "nf4", "auto"), label=_("Quantise the base model"),
        help=_("Half (int8) or a quarter (nf4) of its memory, for some speed and a little exactness. "
               "auto does it only when nothing else fits."),
    )  # fmt: skip
    distilled: str = setting(
        "auto", kind="choice", choices=("auto", "yes", "no"), label=_("Distilled base model"),
        help=_("Made to draw in a few steps, which training undoes without an adapter; auto: as its files say."),
    )  # fmt: skip
    training_adapter: str | None = setting(
        None, kind="path", label=_("Training adapter"),
        help=_("LoRA file that is on the base model while training, and neither in samples nor in the result."),
    )  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class MethodSpec:
    """Say what is attached to the base model and how large it is."""

    type: str = setting(
        "lora", kind="str", label=_("Method"),
        help=_(
            "lora is usual; rslora suits high ranks; dora follows fine detail; loha and lokr make small files; "
            "textual_inversion finds a new word and leaves the model as it is."
        ),
    )  # fmt: skip
    rank: int = setting(
        16, kind="int", label=_("Rank"), minimum=1, maximum=512, advanced=False,
        help=_("Size of the LoRA: larger holds more detail, makes a larger file and over-fits sooner."),
    )  # fmt: skip
    alpha: float | None = setting(
        None, kind="float", label=_("Alpha"), minimum=1e-6, maximum=4096.0,
        help=_("Strength is alpha divided by rank; empty means alpha equals rank."),
    )  # fmt: skip
    targets: str = setting(
        "attn-mlp", kind="choice", choices=("attn", "attn-mlp", "all"), label=_("Trained layers"),
        help=_("attn: attention only; attn-mlp: and feed-forward; all: and convolutions."),
    )  # fmt: skip
    modules: tuple[str, ...] = setting(
        (), kind="list", label=_("Layers by name"),
        help=_("Ends of layer names, such as attn2.to_k, instead of the set above; * stands for part of a name."),
    )  # fmt: skip
    conv_rank: int | None = setting(
        None, kind="int", label=_("Rank of convolutions"), minimum=1, maximum=512,
        help=_("For convolutions larger than 1 x 1, with the layers all (LoCon); empty takes the rank."),
    )  # fmt: skip
    conv_alpha: float | None = setting(
        None, kind="float", label=_("Alpha of convolutions"), minimum=1e-6, maximum=4096.0,
        help=_("Empty keeps alpha divided by rank as for the other layers."),
    )  # fmt: skip
    rules: tuple[str, ...] = setting(
        (), kind="list", label=_("Exceptions by layer"),
        help=_(
            "Lines such as up_blocks.1: rank=32, alpha=16, learning_rate=5e-5. A name fits where it is a run of whole "
            "pieces of a layer's name, or a text encoder; later lines win. Without alpha, alpha by rank stays."
        ),
    )  # fmt: skip
    factor: int | None = setting(
        None, kind="int", label=_("Block size of LoKr"), minimum=2, maximum=1024,
        help=_("Side of the small matrix; larger files learn more. Empty splits each layer about evenly."),
    )  # fmt: skip
    expert: str = setting(
        "auto", kind="choice", choices=("auto", "low", "high"), label=_("Trained denoiser"),
        help=_(
            "For a base model with two (Wan 2.2 14B): low removes the last noise and draws detail, high decides "
            "composition and motion. auto is low; train both for two files."
        ),
    )  # fmt: skip
    vectors: int | None = setting(
        None, kind="int", label=_("Rows of the word"), minimum=1, maximum=32,
        help=_("For textual inversion: more hold more detail; empty takes as many as the initial words have."),
    )  # fmt: skip
    initial_words: str = setting(
        "", kind="str", label=_("Initial words"),
        help=_("For textual inversion: what the new word means at first; empty takes the trigger word."),
    )  # fmt: skip
    text_encoder: bool = setting(
        False, kind="bool", label=_("Train the text encoder"),
        help=_("Also adapt the text encoder; slower, because captions can no longer be cached."),
    )  # fmt: skip

    @property
    def true_alpha(self) -> float:
        """Return alpha, which is the rank when none was given."""
        return float(self.rank) if self.alpha is None else self.alpha


@dataclasses.dataclass(frozen=True, slots=True)
class SamplingSpec:
    """Say which pictures are drawn on the way."""

    prompts: tuple[str, ...] = setting(
        (), kind="list", label=_("Sample prompts"), advanced=False,
        help=_("Drawn with fixed seeds before training and on the way; {trigger} is filled in."),
    )  # fmt: skip
    negative: str = setting("", kind="str", label=_("Negative prompt"), help=_("What samples must not show."))
    every_epochs: int | None = setting(
        None, kind="int", label=_("Sample every so many epochs"), minimum=1, maximum=100_000, unit=_("epochs"),
        help=_("Instead of counting steps; about ten times a run if neither is given."),
    )  # fmt: skip
    every_steps: int | None = setting(
        None, kind="int", label=_("Sample every so many steps"), minimum=1, maximum=1_000_000, unit=_("steps"),
        help=_("Instead of counting epochs."),
    )  # fmt: skip
    sampler: str = setting(
        "auto", kind="str", label=_("Sampler"),
        help=_("How samples are drawn: auto, euler, heun, dpm++ or that of a plugin."),
    )  # fmt: skip
    steps: int = setting(
        20,
        kind="int",
        label=_("Denoising steps"),
        minimum=1,
        maximum=200,
        help=_("Steps of the sampler per sample."),
    )
    guidance: float = setting(
        7.0, kind="float", label=_("Guidance"), minimum=1.0, maximum=50.0,
        help=_("How closely samples follow the prompt."),
    )  # fmt: skip
    seed: int = setting(
        42, kind="int", label=_("Sample seed"), minimum=0, maximum=2**63 - 1, help=_("Fixed seed.")
    )
    count: int = setting(
        1,
        kind="int",
        label=_("Pictures per prompt"),
        minimum=1,
        maximum=16,
        help=_("Different seeds per prompt."),
    )


@dataclasses.dataclass(frozen=True, slots=True)
class CheckpointSpec:
    """Say when the run is saved."""

    every_steps: int | None = setting(
        None, kind="int", label=_("Save every so many steps"), minimum=1, maximum=1_000_000, unit=_("steps"),
        help=_("A resumable checkpoint and a downloadable file."),
    )  # fmt: skip
    every_epochs: int | None = setting(
        None, kind="int", label=_("Save every so many epochs"), minimum=1, maximum=100_000, unit=_("epochs"),
        help=_("Instead of counting steps; about ten times a run if neither is given."),
    )  # fmt: skip
    every_minutes: float | None = setting(
        10.0, kind="float", label=_("Save every so many minutes"), minimum=0.1, maximum=1440.0, nullable=True,
        unit=_("minutes"),
        help=_("At most so much work is lost when a machine fails; empty turns it off."),
    )  # fmt: skip
    keep: int = setting(
        3, kind="int", label=_("Checkpoints kept"), minimum=1, maximum=1000,
        help=_("Older resumable checkpoints are deleted; exported files stay."),
    )  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class OutputSpec:
    """Say what the exported file looks like and says about itself."""

    layout: str = setting(
        "auto", kind="choice", choices=("auto", "kohya", "peft", "comfy"), label=_("Layout of the file"),
        help=_("auto is what most programs read for the base model."),
    )  # fmt: skip
    dtype: str = setting(
        "auto", kind="choice", choices=("auto", "fp16", "bf16", "fp32"), label=_("Number format of the file"),
        help=_("auto is what the programs for the base model expect: fp16, or bf16 for newer ones."),
    )  # fmt: skip
    author: str = setting("", kind="str", label=_("Author"), help=_("Written into the file."))
    description: str = setting("", kind="str", label=_("Description"), help=_("Written into the file."))
    license: str = setting("", kind="str", label=_("Licence"), help=_("Written into the file."))
    include_tag_frequencies: bool = setting(
        False, kind="bool", label=_("Write tag counts into the file"),
        help=_("Off, because it tells every reader of the file what is in your pictures."),
    )  # fmt: skip
