"""Which file of a LoRA to use, from the figures of each, and why. Pure.

A LoRA gets closer to the style of its set the longer it trains, and from some step on pays for it: the pictures show
the set's motifs instead of what the prompt says. So the best file is the earliest of those that are about as close as
any file that still follows its prompts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from django.utils.translation import gettext as _

from training.findings import Finding, Findings

# Of the base model's content score: below, prompts are not followed any more.
KEEPS_CONTENT = 0.75
# Of the way from the base model to the closest file: less is no difference.
STYLE_NOISE = 0.1
# Of the base model's distance: a file that is not so much closer to the set has not learned its style.
LEARNED = 0.1


class Verdict(StrEnum):
    """Name what the figures say."""

    BEST = "best"
    ONLY_STYLE = "only_style"
    ONLY_CONTENT = "only_content"
    LOST_CONTENT = "lost_content"
    NOT_LEARNED = "not_learned"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class BestEpoch:
    """Hold the recommended file, if there is one, the reason, and what to beware of ("" for nothing)."""

    file: Finding | None
    verdict: Verdict
    reason: str
    warning: str = ""


def best_epoch(findings: Findings) -> BestEpoch:
    """Recommend a file of those that were measured, in the active language."""
    files = sorted(findings.measured, key=lambda each: (each.step, each.is_final))
    styled = [each for each in files if each.style_distance is not None]
    scored = [each for each in files if each.content_score is not None]
    if not styled and not scored:
        return BestEpoch(None, Verdict.UNKNOWN, _("Nothing could be measured."))
    if not styled:
        return _by_content(findings.base, scored)
    learned = [each for each in styled if _has_learned(findings.base, each)]
    if not learned:
        return BestEpoch(
            None,
            Verdict.NOT_LEARNED,
            _(
                "No file comes closer to your pictures than the base model alone. "
                "Train for more steps or with a higher learning rate."
            ),
        )
    if not scored:
        return _by_style(findings.base, learned)
    kept = [each for each in learned if _keeps_content(findings.base, each)]
    if not kept:
        return _least_lost(learned)
    best = _earliest_close(findings.base, kept)
    return BestEpoch(best, Verdict.BEST, _why(best, files), _overfitting(best, scored))


def content_noise(images: int, score: float) -> float:
    """Return how far a content score of so many pictures is off by chance: a standard error, at least one picture."""
    return max(1 / images, math.sqrt(max(0.0, score * (1 - score)) / images))


def _has_learned(base: Finding, file: Finding) -> bool:
    if base.style_distance is None or file.style_distance is None:
        return True
    return file.style_distance < base.style_distance * (1 - LEARNED)


def _keeps_content(base: Finding, file: Finding) -> bool:
    whole = base.content_score if base.content_score is not None else 1.0
    return file.content_score is not None and file.content_score >= KEEPS_CONTENT * whole


def _earliest_close(base: Finding, files: Sequence[Finding]) -> Finding:
    """Return the earliest file that is as close to the set as the closest one, within noise."""
    closest = min(files, key=lambda each: each.style_distance or 0.0)
    return next(each for each in files if _is_equal(each, closest, base))


def _is_equal(one: Finding, two: Finding, base: Finding) -> bool:
    """Tell whether `one` is no farther from the set than `two`, within noise."""
    far, near = one.style_distance or 0.0, two.style_distance or 0.0
    start = base.style_distance if base.style_distance is not None else near * 2
    return far <= near + STYLE_NOISE * max(0.0, start - near)


def _why(best: Finding, files: Sequence[Finding]) -> str:
    if len(files) == 1:
        return _("It is the only file. It shows the style, and prompts are still followed.")
    if best is files[-1]:
        return _(
            "It is the closest to your pictures, and prompts are still followed. It may gain from more steps."
        )
    return _(
        "It is as close to your pictures as any file that still follows prompts, and the earliest of these."
    )


def _overfitting(best: Finding, files: Sequence[Finding]) -> str:
    """Say from which step on content falls, by more than chance, below that of the recommended file."""
    score = best.content_score or 0.0
    for each in files:
        if each.step <= best.step or each.content_score is None:
            continue
        if each.content_score < score - content_noise(each.images, score):
            return _(
                "From step %(step)s on prompts are followed less (%(after)s instead of %(before)s): "
                "the training has gone on for too long."
            ) % {"step": each.step, "after": f"{each.content_score:.0%}", "before": f"{score:.0%}"}
    return ""


def _least_lost(files: Sequence[Finding]) -> BestEpoch:
    """Recommend the file that follows prompts most, where none follows them well."""
    best = max(files, key=lambda each: each.content_score if each.content_score is not None else -1.0)
    return BestEpoch(
        best,
        Verdict.LOST_CONTENT,
        _("Of the files that learned the style it follows prompts most."),
        _(
            "No file shows the style and still follows prompts. Train for fewer steps, "
            "with a lower learning rate or with more pictures."
        ),
    )


def _by_style(base: Finding, files: Sequence[Finding]) -> BestEpoch:
    return BestEpoch(
        _earliest_close(base, files),
        Verdict.ONLY_STYLE,
        _("It is as close to your pictures as any file, and the earliest of these."),
        _("Whether prompts are still followed could not be measured; it takes two different prompts."),
    )


def _by_content(base: Finding, files: Sequence[Finding]) -> BestEpoch:
    kept = [each for each in files if _keeps_content(base, each)]
    if not kept:
        best = max(files, key=lambda each: each.content_score or 0.0)
        reason = _("No file follows prompts well; it does so most.")
    else:
        best, reason = kept[-1], _("It has learned for the longest of those that still follow prompts.")
    return BestEpoch(
        best,
        Verdict.ONLY_CONTENT,
        reason,
        _("How close it is to your pictures could not be measured: they were deleted or cannot be read."),
    )
