"""The text that a picture is trained with: a form of its caption, and the template filled in.

A caption of tags has a bounded number of forms, so that all of them are encoded before training; which one a sample
gets follows from (seed, step, sample) alone.
"""

from __future__ import annotations

import re

from training.engine import rng
from training.engine.data_sections import CaptionSpec

# A list of tags has at least so many, none of them with more words than this.
_FEWEST_TAGS = 3
_LONGEST_TAG = 5


def caption_text(captions: CaptionSpec, trigger: str, caption: str, variant: int = 0, seed: int = 0) -> str:
    """Return the text trained on: the template filled in, tags dropped and reordered for ``variant`` above 0.

    A trigger that the caption already has, as a word of its own, is not said twice; an empty part takes its comma
    with it.
    """
    caption = _form(captions, caption, variant, seed)
    if "{caption}" in captions.template and has_word(caption, trigger):
        trigger = ""
    text = captions.template.replace("{trigger}", trigger).replace("{caption}", caption)
    if not trigger or not caption:
        text = re.sub(r"\s*,(\s*,)+", ",", text)
        text = re.sub(r"^[\s,]+|[\s,]+$", "", text)
    return text


def variants(captions: CaptionSpec) -> range:
    """Return which variants of a caption are trained with; 0 is the caption as written."""
    if captions.tag_dropout:  # each time some are missing, so it is never the whole caption by rule
        return range(1, captions.shuffle_variants + 1)
    return range(captions.shuffle_variants if captions.shuffle_tags else 1)


def split_tags(captions: CaptionSpec, caption: str) -> tuple[list[str], list[str], list[str]]:
    """Part a caption into tags that stay in front, tags that may move or be missing, and tags that stay at the end."""
    mark = captions.keep_separator
    if not mark or mark not in caption:
        tags = _tags(caption)
        return tags[: captions.keep_tags], tags[captions.keep_tags :], []
    front, free, *end = caption.split(mark, 2)
    return _tags(front), _tags(free), _tags(",".join(end).replace(mark, ","))


def is_tags(captions: CaptionSpec, caption: str) -> bool:
    """Tell whether a caption is taken for a list of tags; "auto" looks at the number and length of its parts."""
    if captions.style != "auto":
        return captions.style == "tags"
    parts = [tag for part in split_tags(captions, caption) for tag in part]
    return len(parts) >= _FEWEST_TAGS and all(
        len(part.split()) <= _LONGEST_TAG and not part.endswith((".", "!", "?")) for part in parts
    )


def _form(captions: CaptionSpec, caption: str, variant: int, seed: int) -> str:
    mark = captions.keep_separator
    if not is_tags(captions, caption):
        return " ".join(part.strip() for part in caption.split(mark)) if mark and mark in caption else caption
    changes = variant > 0 and (captions.shuffle_tags or captions.tag_dropout > 0.0)
    if not changes and not (mark and mark in caption):
        return caption
    front, free, end = split_tags(captions, caption)
    if changes and captions.tag_dropout:
        chance = "tag-dropout/" + caption
        free = [
            t for i, t in enumerate(free) if rng.uniform(seed, chance, variant, i) >= captions.tag_dropout
        ]
    if changes and captions.shuffle_tags:
        order = rng.permutation(len(free), seed, "tags/" + caption, variant)
        free = [free[i] for i in order]
    return ", ".join([*front, *free, *end])


def _tags(text: str) -> list[str]:
    return [tag.strip() for tag in text.split(",") if tag.strip()]


def has_word(text: str, word: str) -> bool:
    """Tell whether a text has ``word`` as a word, or words, of its own, in any case."""
    return bool(word) and re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE) is not None
