"""The text that a picture is trained with: tags in another order, and the template filled in."""

from __future__ import annotations

import re

from training.engine import rng
from training.engine.data_sections import CaptionSpec


def caption_text(captions: CaptionSpec, trigger: str, caption: str, variant: int = 0, seed: int = 0) -> str:
    """Return the text trained on: the template filled in, tags reordered for ``variant`` above 0.

    A trigger that the caption already has, as a word of its own, is not said twice; an empty part takes its comma
    with it.
    """
    if captions.shuffle_tags and variant:
        tags = [tag.strip() for tag in caption.split(",") if tag.strip()]
        fixed, free = tags[: captions.keep_tags], tags[captions.keep_tags :]
        order = rng.permutation(len(free), seed, "tags/" + caption, variant)
        caption = ", ".join([*fixed, *(free[i] for i in order)])
    if "{caption}" in captions.template and _has_word(caption, trigger):
        trigger = ""
    text = captions.template.replace("{trigger}", trigger).replace("{caption}", caption)
    if not trigger or not caption:
        text = re.sub(r"\s*,(\s*,)+", ",", text)
        text = re.sub(r"^[\s,]+|[\s,]+$", "", text)
    return text


def _has_word(text: str, word: str) -> bool:
    return bool(word) and re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE) is not None
