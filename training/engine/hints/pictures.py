# ruff: noqa: E501 - a table reads better with its patterns whole
"""Failures of pictures and captions."""

from __future__ import annotations

from training.engine.errors import ExitCode
from training.engine.fields import gettext_noop as _
from training.engine.hints.hint import Hint

HINTS: tuple[Hint, ...] = (
    Hint("image_format_unknown", r"cannot identify image file .*\.(heic|heif|avif|jxl|raw|cr2|nef|dng|psd|svg)\b|(avif|heif|jpeg2k|jpegxl).{0,20}(support|decoder|plugin)", "user",
         ExitCode.DATA, _("A picture has a format that this worker cannot read."),
         _("Save it as PNG or JPEG; for HEIC the package pillow-heif can be installed instead.")),
    Hint("image_unreadable", r"cannot identify image file|image file is truncated|broken data stream|unrecognized data stream|UnidentifiedImageError",
         "user", ExitCode.DATA, _("A picture cannot be read."),
         _("Remove the damaged picture from the set.")),
    Hint("image_too_large", r"DecompressionBomb", "user", ExitCode.DATA, _("A picture has too many pixels."),
         _("Scale the picture down to 8000 pixels a side.")),
    Hint("text_not_utf8", r"can't decode byte", "user", ExitCode.DATA, _("A caption or a list of pictures is not UTF-8 text."),
         _("Save the file as UTF-8; Windows editors call it that in their save dialog."), kinds=("UnicodeDecodeError",)),
    Hint("latent_not_finite", r"latent.*not finite|NaN.*(vae|latent)", "user", ExitCode.DATA,
         _("The base model's image encoder gives no finite numbers."),
         _("Use a base model with a repaired VAE, or train in fp32."), {"/training/precision": "fp32"}),
    Hint("sizes_mixed", r"stack expects each tensor to be equal size", "platform", ExitCode.DATA,
         _("Pictures of different sizes came into one batch; the cache may be of another run."),
         _("Empty the cache folder and start again.")),
)  # fmt: skip
