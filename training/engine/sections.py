"""The sections of a recipe: each a frozen dataclass whose settings know their label, limits and unit.

Those about pictures and captions are in ``data_sections``.
``spec`` puts them together and knows what they mean to each other. Nothing here imports torch.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Literal

from training.engine.fields import gettext_noop as _
from training.engine.fields import setting
from training.engine.schedule import SCHEDULES

CHECKPOINTING = ("off", "blocks", "all")
"""Levels of gradient checkpointing, each with less memory and more work than the one before."""
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
class TrainingSpec:
    """Say how long, how fast and with which loss."""

    steps: int | None = setting(
        None, kind="int", label=_("Steps"), minimum=1, maximum=1_000_000, advanced=False,
        help=_("Number of optimizer steps; give this or epochs."),
    )  # fmt: skip
    epochs: int | None = setting(
        None, kind="int", label=_("Epochs"), minimum=1, maximum=100_000, advanced=False,
        help=_("How often the whole set is seen; 10 if neither steps nor epochs is given."),
    )  # fmt: skip
    batch_size: int = setting(
        1, kind="int", label=_("Batch size"), minimum=1, maximum=1024, unit=_("pictures"), advanced=False,
        help=_("Pictures computed at once; more needs more memory."),
    )  # fmt: skip
    gradient_accumulation: int = setting(
        1, kind="int", label=_("Gradient accumulation"), minimum=1, maximum=1024,
        help=_("Batches added up before one step; a larger effective batch in the same memory."),
    )  # fmt: skip
    learning_rate: float = setting(
        1e-4, kind="float", label=_("Learning rate"), minimum=1e-9, maximum=1.0, advanced=False,
        help=_("Size of each step; too high destroys the pictures, too low learns nothing."),
    )  # fmt: skip
    text_encoder_learning_rate: float | None = setting(
        None, kind="float", label=_("Learning rate of the text encoder"), minimum=1e-9, maximum=1.0,
        help=_("Used when the text encoder is trained; empty means half of the learning rate."),
    )  # fmt: skip
    optimizer: str = setting(
        "adamw", kind="str", label=_("Optimizer"),
        help=_("How steps follow from gradients. prodigy finds the learning rate itself: give 1 as learning rate; "
               "lion wants a fifth of adamw's, schedule-free a constant schedule."),
    )  # fmt: skip
    schedule: str = setting(
        "cosine", kind="choice", choices=SCHEDULES, label=_("Learning rate schedule"),
        help=_("How the learning rate falls towards the end; one-cycle rises first, over the warm-up."),
    )  # fmt: skip
    schedule_restarts: int = setting(
        3, kind="int", label=_("Restarts"), minimum=1, maximum=100,
        help=_("How often cosine-restarts goes back to the full learning rate."),
    )  # fmt: skip
    schedule_power: float = setting(
        2.0, kind="float", label=_("Power of the schedule"), minimum=0.1, maximum=10.0,
        help=_("How steep polynomial falls at first; 1 is linear."),
    )  # fmt: skip
    warmup_steps: int = setting(
        0, kind="int", label=_("Warm-up"), minimum=0, maximum=100_000, unit=_("steps"),
        help=_("Steps over which the learning rate rises at the start."),
    )  # fmt: skip
    weight_decay: float = setting(
        0.01,
        kind="float",
        label=_("Weight decay"),
        minimum=0.0,
        maximum=1.0,
        help=_("Pulls the weights towards zero."),
    )
    max_grad_norm: float = setting(
        1.0, kind="float", label=_("Gradient clipping"), minimum=0.0, maximum=1000.0,
        help=_("Longest gradient allowed; 0 turns clipping off."),
    )  # fmt: skip
    ema_decay: float | None = setting(
        None, kind="float", label=_("EMA decay"), minimum=0.5, maximum=0.99999,
        help=_("Draw, measure and export a moving average of the weights; 0.99 to 0.999 is usual, empty turns it off."),
    )  # fmt: skip
    min_snr_gamma: float | None = setting(
        None, kind="float", label=_("Min-SNR gamma"), minimum=0.1, maximum=100.0,
        help=_("Balances easy and hard noise levels; 5 is usual, empty turns it off."),
    )  # fmt: skip
    loss: str = setting(
        "l2", kind="choice", choices=("l2", "huber", "smooth_l1"), label=_("Loss"),
        help=_("l2 is usual; huber and smooth_l1 take less notice of pictures that do not fit the rest."),
    )  # fmt: skip
    huber_c: float = setting(
        0.1, kind="float", label=_("Huber threshold"), minimum=1e-4, maximum=10.0,
        help=_("Errors beyond it count in proportion instead of squared; for huber and smooth_l1."),
    )  # fmt: skip
    loss_weighting: str = setting(
        "none", kind="choice", choices=("none", "debiased", "cosmap", "sigma_sqrt"),
        label=_("Weight of noise levels"),
        help=_("debiased for Stable Diffusion and SDXL; cosmap or sigma_sqrt for flow models."),
    )  # fmt: skip
    timestep_sampling: str = setting(
        "auto", kind="choice", choices=("auto", "uniform", "logit_normal", "mode"),
        label=_("Distribution of noise levels"),
        help=_("Which noise levels are trained how often; auto takes what the base model was trained with."),
    )  # fmt: skip
    logit_mean: float = setting(
        0.0, kind="float", label=_("Centre of logit-normal"), minimum=-5.0, maximum=5.0,
        help=_("Above 0 trains more on noisy, below 0 more on nearly clean pictures."),
    )  # fmt: skip
    logit_std: float = setting(
        1.0, kind="float", label=_("Width of logit-normal"), minimum=0.01, maximum=5.0,
        help=_("Larger spreads the noise levels towards both ends."),
    )  # fmt: skip
    mode_scale: float = setting(
        1.29, kind="float", label=_("Strength of mode sampling"), minimum=-1.0, maximum=1.75,
        help=_("Above 0 favours middle noise levels, below 0 both ends."),
    )  # fmt: skip
    timestep_shift: float | None = setting(
        None, kind="float", label=_("Shift of noise levels"), minimum=0.01, maximum=100.0,
        help=_("Above 1 trains more on noisy pictures; empty takes the base model's own."),
    )  # fmt: skip
    timestep_min: float = setting(
        0.0, kind="float", label=_("Lowest noise level"), minimum=0.0, maximum=1.0,
        help=_("0 is clean; raise it to leave fine detail as the base model has it."),
    )  # fmt: skip
    timestep_max: float = setting(
        1.0, kind="float", label=_("Highest noise level"), minimum=0.0, maximum=1.0,
        help=_("1 is pure noise; lower it to leave composition as the base model has it."),
    )  # fmt: skip
    zero_terminal_snr: bool = setting(
        False, kind="bool", label=_("Zero terminal SNR"),
        help=_("Makes the last step pure noise, for deep blacks and whites; for v-prediction models only."),
    )  # fmt: skip
    multires_discount: float = setting(
        0.0, kind="float", label=_("Multi-resolution noise"), minimum=0.0, maximum=0.99,
        help=_("Adds coarse noise, each level weaker by this factor; 0.3 is usual, 0 turns it off."),
    )  # fmt: skip
    noise_offset: float = setting(
        0.0, kind="float", label=_("Noise offset"), minimum=0.0, maximum=1.0,
        help=_("Helps very dark or bright pictures; 0.05 is usual, 0 turns it off."),
    )  # fmt: skip
    caption_dropout: float = setting(
        0.0, kind="float", label=_("Caption dropout"), minimum=0.0, maximum=1.0,
        help=_("Share of samples trained without their caption."),
    )  # fmt: skip
    resolution: int = setting(
        512, kind="int", label=_("Resolution"), minimum=32, maximum=4096, unit=_("pixels"), advanced=False,
        help=_("Side of a square picture of the trained area; other shapes get buckets of the same area."),
    )  # fmt: skip
    resolutions: tuple[int, ...] = setting(
        (), kind="ints", label=_("Smaller resolutions"), minimum=32, maximum=4096, unit=_("pixels"),
        help=_("Sizes that each picture is trained at besides, once each in every epoch, for example 512 and 768."),
    )  # fmt: skip
    frames: int = setting(
        1, kind="int", label=_("Frames per clip"), minimum=1, maximum=1024,
        help=_(
            "Of a clip, its first ones, at the rate the base model knows: 4k + 1 for Wan, 8k + 1 for LTX-Video. "
            "1 trains on stills."
        ),
    )  # fmt: skip
    flip: bool = setting(
        False,
        kind="bool",
        label=_("Mirror"),
        help=_("Show half of the pictures mirrored; not for text or faces."),
    )
    crop: str = setting(
        "centre", kind="choice", choices=("centre", "random"), label=_("Crop"),
        help=_("Where a picture is cut to the shape of its bucket: at its centre, or each time elsewhere."),
    )  # fmt: skip
    crop_variants: int = setting(
        4, kind="int", label=_("Crops per picture"), minimum=2, maximum=16,
        help=_("How many places of a random crop are encoded and cached for each picture, evenly spread."),
    )  # fmt: skip
    gradient_checkpointing: str = setting(
        "auto", kind="choice", choices=("auto", *CHECKPOINTING), booleans=("off", "all"),
        label=_("Gradient checkpointing"),
        help=_("Less memory for time: blocks computes every other block twice, all each of them, a third slower; "
               "auto measures what is needed."),
    )  # fmt: skip
    offload: str = setting(
        "off", kind="choice", choices=("off", "on", "auto"), booleans=("off", "on"), label=_("Offload"),
        help=_("Keeps the base model in the host's memory and brings it to the GPU block by block; slow. "
               "auto does it only when nothing else fits."),
    )  # fmt: skip
    compile: str = setting(
        "off", kind="choice", choices=("off", "regional"), booleans=("off", "regional"), label=_("Compile"),
        help=_("regional compiles the model's repeated blocks: a slow start, and up to 40 % faster steps on a GPU."),
    )  # fmt: skip
    precision: str = setting(
        "auto", kind="choice", choices=("auto", "fp32", "bf16"), label=_("Precision"),
        help=_("Numbers of the frozen model; auto takes bf16 where the device has it. The LoRA is always fp32."),
    )  # fmt: skip
    seed: int = setting(
        0,
        kind="int",
        label=_("Seed"),
        minimum=0,
        maximum=2**63 - 1,
        help=_("The same seed gives the same run."),
    )
    held_out: float = setting(
        0.0, kind="float", label=_("Held-out share"), minimum=0.0, maximum=0.5,
        help=_("Share of the pictures kept aside to measure what was learned."),
    )  # fmt: skip
    held_out_count: int | None = setting(
        None, kind="int", label=_("Held-out pictures"), minimum=1, maximum=100_000, unit=_("pictures"),
        help=_("So many pictures are kept aside, instead of a share."),
    )  # fmt: skip
    held_out_steady: bool = setting(
        False, kind="bool", label=_("Steady held-out pictures"),
        help=_("Each picture is kept aside or not by its content alone, whatever is added; the share is then about."),
    )  # fmt: skip

    @property
    def sizes(self) -> tuple[int, ...]:
        """Return every trained resolution, the largest first."""
        return tuple(sorted({self.resolution, *self.resolutions}, reverse=True))

    def held_out_of(self, pictures: int) -> int:
        """Return how many of so many pictures are kept aside; of a share none of fewer than four, else at least one."""
        if self.held_out_count is not None:
            return min(self.held_out_count, pictures)
        return max(1, round(pictures * self.held_out)) if self.held_out > 0.0 and pictures >= 4 else 0

    @property
    def mean_pixels(self) -> float:
        """Return the pixels of a sample, over all resolutions."""
        return sum(size * size for size in self.sizes) / len(self.sizes)


@dataclasses.dataclass(frozen=True, slots=True)
class SamplingSpec:
    """Say which pictures are drawn on the way."""

    prompts: tuple[str, ...] = setting(
        (), kind="list", label=_("Sample prompts"), advanced=False,
        help=_("Drawn with fixed seeds before training and on the way; {trigger} is filled in."),
    )  # fmt: skip
    negative: str = setting("", kind="str", label=_("Negative prompt"), help=_("What samples must not show."))
    every_epochs: int | None = setting(
        None, kind="int", label=_("Sample every so many epochs"), minimum=1, maximum=100_000,
        help=_("Instead of counting steps; about ten times a run if neither is given."),
    )  # fmt: skip
    every_steps: int | None = setting(
        None, kind="int", label=_("Sample every so many steps"), minimum=1, maximum=1_000_000,
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
        None, kind="int", label=_("Save every so many steps"), minimum=1, maximum=1_000_000,
        help=_("A resumable checkpoint and a downloadable file."),
    )  # fmt: skip
    every_epochs: int | None = setting(
        None, kind="int", label=_("Save every so many epochs"), minimum=1, maximum=100_000,
        help=_("Instead of counting steps; about ten times a run if neither is given."),
    )  # fmt: skip
    every_minutes: float | None = setting(
        10.0, kind="float", label=_("Save every so many minutes"), minimum=0.1, maximum=1440.0, nullable=True,
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
