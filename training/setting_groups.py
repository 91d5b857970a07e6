"""The advanced settings of a new training, in the order of its page."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext_lazy

# Titles and the JSON pointers of settings, each group folded. Masks are for recipe files: a picture set keeps no
# files of masks, and what was transparent in a picture became white when it was taken in.
GROUPS: tuple[tuple[Any, tuple[str, ...]], ...] = (
    (
        gettext_lazy("Memory and speed"),
        (
            "/training/batch_size",
            "/training/gradient_accumulation",
            "/training/resolution",
            "/training/resolutions",
            "/training/precision",
            "/training/gradient_checkpointing",
            "/base_model/quantise",
            "/training/offload",
            "/training/compile",
        ),
    ),
    (
        gettext_lazy("LoRA"),
        (
            "/method/type",
            "/method/alpha",
            "/method/targets",
            "/method/conv_rank",
            "/method/conv_alpha",
            "/method/factor",
            "/method/text_encoder",
        ),
    ),
    (
        gettext_lazy("Learning"),
        (
            "/training/optimizer",
            "/training/schedule",
            "/training/schedule_restarts",
            "/training/schedule_power",
            "/training/warmup_steps",
            "/training/weight_decay",
            "/training/max_grad_norm",
            "/training/ema_decay",
            "/training/text_encoder_learning_rate",
            "/training/seed",
        ),
    ),
    (
        gettext_lazy("Noise and loss"),
        (
            "/training/loss",
            "/training/huber_c",
            "/training/min_snr_gamma",
            "/training/loss_weighting",
            "/training/timestep_sampling",
            "/training/timestep_shift",
            "/training/timestep_min",
            "/training/timestep_max",
            "/training/logit_mean",
            "/training/logit_std",
            "/training/mode_scale",
            "/training/noise_offset",
            "/training/multires_discount",
            "/training/zero_terminal_snr",
        ),
    ),
    (
        gettext_lazy("Pictures and captions"),
        (
            "/dataset/repeats",
            "/training/held_out",
            "/training/caption_dropout",
            "/captions/template",
            "/captions/style",
            "/captions/tag_dropout",
            "/captions/keep_tags",
            "/captions/shuffle_variants",
            "/captions/shuffle_tags",
            "/training/crop",
            "/training/crop_variants",
            "/training/flip",
        ),
    ),
    (
        gettext_lazy("Shapes of the pictures"),
        (
            "/buckets/enlarge",
            "/buckets/small_pictures",
            "/buckets/aspect_limit",
            "/buckets/step",
            "/buckets/smallest_side",
            "/buckets/largest_side",
            "/buckets/fill",
        ),
    ),
    (
        gettext_lazy("Keep what the base model knows"),
        (
            "/prior/prompt",
            "/prior/count",
            "/prior/steps",
            "/prior/guidance",
            "/regularisation/ratio",
            "/regularisation/weight",
            "/prior/teacher",
        ),
    ),
    (
        gettext_lazy("Samples and checkpoints"),
        (
            "/sampling/every_steps",
            "/sampling/every_epochs",
            "/sampling/sampler",
            "/sampling/steps",
            "/sampling/guidance",
            "/sampling/seed",
            "/sampling/count",
            "/sampling/negative",
            "/checkpoint/every_steps",
            "/checkpoint/every_minutes",
            "/checkpoint/keep",
        ),
    ),
    (
        gettext_lazy("The file"),
        (
            "/output/layout",
            "/output/dtype",
            "/output/author",
            "/output/license",
            "/output/description",
            "/output/include_tag_frequencies",
        ),
    ),
)
