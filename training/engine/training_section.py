"""The section of a recipe about the learning itself: how long, how fast, with which noise and loss, in what memory.

Nothing here imports torch.
"""

from __future__ import annotations

import dataclasses

from training.engine.fields import gettext_noop as _
from training.engine.fields import setting
from training.engine.schedule import SCHEDULES

CHECKPOINTING = ("off", "blocks", "all")
"""Levels of gradient checkpointing, each with less memory and more work than the one before."""


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
        1, kind="int", label=_("Gradient accumulation"), minimum=1, maximum=1024, unit=_("batches"),
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
        1, kind="int", label=_("Frames per clip"), minimum=1, maximum=1024, unit=_("frames"),
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

    @property
    def text_encoder_rate(self) -> float:
        """Return the learning rate of text encoders, which is half of the other when none was given."""
        return (
            self.learning_rate / 2
            if self.text_encoder_learning_rate is None
            else self.text_encoder_learning_rate
        )

    def held_out_of(self, pictures: int) -> int:
        """Return how many of so many pictures are kept aside; of a share none of fewer than four, else at least one."""
        if self.held_out_count is not None:
            return min(self.held_out_count, pictures)
        return max(1, round(pictures * self.held_out)) if self.held_out > 0.0 and pictures >= 4 else 0

    @property
    def mean_pixels(self) -> float:
        """Return the pixels of a sample, over all resolutions."""
        return sum(size * size for size in self.sizes) / len(self.sizes)
