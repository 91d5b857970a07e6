# ruff: noqa: E501 - a table reads better with its sentences whole
"""What is likely to disappoint in a set of pictures and its captions."""

from __future__ import annotations

import math
import re
from collections import Counter

from training.engine.fields import gettext_noop as _
from training.engine.hints.facts import Condition, Found, SetFacts
from training.engine.spec import RunSpec

CLIP_FAMILIES = frozenset({"sd", "sdxl"})
CLIP_TOKENS = 75
"""What CLIP reads of a caption; words and marks are counted, each at least one token."""
COMMON_WORDS = frozenset({
    "man", "woman", "person", "people", "girl", "boy", "child", "face", "dog", "cat", "animal", "bird", "car", "house",
    "style", "art", "photo", "picture", "image", "painting", "portrait", "landscape", "anime", "character", "object",
    "product", "concept",
})  # fmt: skip

# -- the set -------------------------------------------------------------------------------------------------------


def _one_picture(spec: RunSpec, facts: SetFacts) -> Found | None:
    return Found() if facts.pictures == 1 else None


def _few_pictures(spec: RunSpec, facts: SetFacts) -> Found | None:
    return Found({"pictures": facts.pictures}) if 1 < facts.pictures < 5 else None


def _duplicates(spec: RunSpec, facts: SetFacts) -> Found | None:
    again = sum(count - 1 for count in Counter(facts.digests).values())
    return Found({"count": again}) if again else None


def _small_pictures(spec: RunSpec, facts: SetFacts) -> Found | None:
    side = spec.training.resolution
    small = [size for size in facts.sizes if size[0] * size[1] * 2.25 < side * side]
    if not small:
        return None
    middle = sorted(math.isqrt(width * height) for width, height in facts.sizes)[len(facts.sizes) // 2]
    lower = max(64, middle // 64 * 64)
    return Found({"count": len(small)}, {"/training/resolution": lower} if lower < side else None)


def _batch_over_bucket(spec: RunSpec, facts: SetFacts) -> Found | None:
    fullest = max(facts.buckets.values(), default=0)
    batch = spec.training.batch_size
    if not fullest or batch <= fullest:
        return None
    return Found({"batch": batch, "fullest": fullest}, {"/training/batch_size": fullest})


def _lonely_buckets(spec: RunSpec, facts: SetFacts) -> Found | None:
    batch = spec.training.batch_size
    lonely = sum(samples < batch for samples in facts.buckets.values())
    if (
        batch < 2
        or len(facts.buckets) < 2
        or lonely * 2 <= len(facts.buckets)
        or _batch_over_bucket(spec, facts)
    ):
        return None
    return Found({"lonely": lonely, "shapes": len(facts.buckets), "batch": batch})


def _held_out_few(spec: RunSpec, facts: SetFacts) -> Found | None:
    if not spec.training.held_out or not facts.held_out or facts.pictures + facts.held_out >= 20:
        return None
    return Found({"pictures": facts.pictures + facts.held_out}, {"/training/held_out": 0.0})


# -- captions ------------------------------------------------------------------------------------------------------


def _captions_missing(spec: RunSpec, facts: SetFacts) -> Found | None:
    return Found() if facts.captions and not any(facts.captions) and not spec.trigger else None


def _captions_partly(spec: RunSpec, facts: SetFacts) -> Found | None:
    empty = sum(not caption for caption in facts.captions)
    return Found({"count": empty}) if 0 < empty < len(facts.captions) else None


def _captions_alike(spec: RunSpec, facts: SetFacts) -> Found | None:
    alike = len(facts.captions) > 4 and facts.captions[0] and len(set(facts.captions)) == 1
    return Found({"count": len(facts.captions)}) if alike else None


def _captions_long(spec: RunSpec, facts: SetFacts) -> Found | None:
    if spec.base_model.family not in CLIP_FAMILIES:
        return None
    cut = sum(len(re.findall(r"\w+|[^\w\s]", caption)) > CLIP_TOKENS for caption in facts.captions)
    return Found({"count": cut}) if cut else None


def _orphans(spec: RunSpec, facts: SetFacts) -> Found | None:
    return Found({"count": facts.orphans}) if facts.orphans else None


def _sentences_shuffled(spec: RunSpec, facts: SetFacts) -> Found | None:
    if not spec.captions.shuffle_tags or not facts.captions:
        return None
    sentences = sum(len(part.split()) > 6 for caption in facts.captions for part in caption.split(","))
    if sentences * 2 <= len(facts.captions):
        return None
    return Found({}, {"/captions/shuffle_tags": False})


def _trigger_common(spec: RunSpec, facts: SetFacts) -> Found | None:
    return Found({"trigger": spec.trigger}) if spec.trigger.strip().lower() in COMMON_WORDS else None


def _trigger_not_drawn(spec: RunSpec, facts: SetFacts) -> Found | None:
    prompts = spec.sampling.prompts
    if not spec.trigger or not prompts or any("{trigger}" in p or spec.trigger in p for p in prompts):
        return None
    return Found({}, {"/sampling/prompts": ["{trigger}, " + prompts[0], *prompts[1:]]})


def _caption_dropout_high(spec: RunSpec, facts: SetFacts) -> Found | None:
    share = spec.training.caption_dropout
    return Found({"percent": round(100 * share)}, {"/training/caption_dropout": 0.1}) if share > 0.5 else None


CONDITIONS: tuple[Condition, ...] = (
    Condition("one_picture", _("There is one picture to train on."),
              _("It will be learned by heart. Ten different pictures or more teach what they have in common."), _one_picture),
    Condition("few_pictures", _("There are only {pictures} pictures to train on."),
              _("Ten or more, in different surroundings, teach what they have in common."), _few_pictures),
    Condition("batch_over_bucket", _("The batch size is {batch}, and no shape of picture has more than {fullest} samples: no batch is ever full."),
              _("Lower the batch size, or raise the repeats."), _batch_over_bucket),
    Condition("buckets_lonely", _("{lonely} of {shapes} shapes of picture have fewer samples than a batch of {batch}."),
              _("Cut the pictures to fewer shapes, or lower the batch size."), _lonely_buckets),
    Condition("images_small", _("{count} pictures are much smaller than the training resolution."),
              _("Enlarged pictures teach blur. Use larger pictures or a lower resolution."), _small_pictures),
    Condition("images_twice", _("{count} pictures are in the set twice."),
              _("Remove them, or use repeats: a picture that is there twice counts twice."), _duplicates),
    Condition("held_out_few", _("Pictures are kept aside to measure, out of only {pictures}."),
              _("With fewer than 20 pictures train on all of them."), _held_out_few),
    Condition("captions_missing", _("There are neither captions nor a trigger word."),
              _("Give a trigger word, or write captions; otherwise nothing in a prompt calls the LoRA."), _captions_missing),
    Condition("captions_partly_missing", _("{count} pictures have no caption."),
              _("What no caption names is learned as part of the subject; write one for each picture."), _captions_partly),
    Condition("captions_alike", _("All {count} captions are the same."),
              _("Name what differs between the pictures; what they share is what the LoRA learns."), _captions_alike),
    Condition("captions_long", _("{count} captions are longer than the 75 tokens this base model reads."),
              _("Put what matters first, or shorten them; the rest is cut off."), _captions_long),
    Condition("captions_orphaned", _("{count} caption files belong to no picture."),
              _("A caption needs the name of its picture with the ending .txt."), _orphans),
    Condition("sentences_shuffled", _("Tags are to be shuffled, but the captions are sentences."),
              _("Shuffle only comma-separated tags; the parts of a sentence lose their meaning."), _sentences_shuffled),
    Condition("trigger_common", _("The trigger word {trigger!r} is a word that the base model knows."),
              _("Choose a word that means nothing yet, such as a name with unusual spelling; else every such thing changes."), _trigger_common),
    Condition("trigger_not_drawn", _("No sample prompt has the trigger word, so samples show nothing of what is learned."),
              _("Write {trigger} into at least one prompt."), _trigger_not_drawn),
    Condition("caption_dropout_high", _("{percent} % of the samples are trained without their caption."),
              _("About 10 % is usual; more teaches to ignore the prompt."), _caption_dropout_high),
)  # fmt: skip
