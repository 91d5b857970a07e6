"""Put the captions that an engine tells beside their pictures, unless a person wrote there meanwhile."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from projects.archive import clean_caption
from projects.models import Item
from projects.reasons import Refusal
from projects.services.items import write_captions
from training.models import CaptionMode, CaptionOutcome, TrainingJob, WantedCaption


@dataclass(frozen=True, slots=True)
class CaptionResult:
    """Hold what became of a picture, and the caption it has now."""

    outcome: CaptionOutcome
    caption: str


def store_captions(job: TrainingJob, texts: Mapping[str, str]) -> dict[str, CaptionResult]:
    """Store `texts` by the uid of their picture, in the caller's transaction, and return the results that are new.

    What an earlier attempt stored and what was deleted meanwhile has none. Costs the same for one and for many.
    """
    if not texts:
        return {}
    rows = (
        WantedCaption.objects.for_team(job.team)
        .filter(job=job, outcome="", item__uid__in=list(texts))
        .select_related("item")
        .select_for_update(of=("self", "item"), no_key=True)
        .order_by("item_id")
    )
    mode = CaptionMode(job.spec["mode"])
    results: dict[str, CaptionResult] = {}
    changed: list[Item] = []
    by_outcome: dict[CaptionOutcome, list[int]] = defaultdict(list)
    for row in rows:
        item = row.item
        outcome, caption = _decide(job, row, mode, texts[item.uid])
        if caption != item.caption and outcome is CaptionOutcome.WRITTEN:
            item.caption = caption
            changed.append(item)
        by_outcome[outcome].append(row.pk)
        results[item.uid] = CaptionResult(outcome, caption)
    write_captions(changed)
    for outcome, pks in by_outcome.items():
        WantedCaption.objects.for_team(job.team).filter(pk__in=pks).update(outcome=outcome)
    return results


def _decide(job: TrainingJob, row: WantedCaption, mode: CaptionMode, told: str) -> tuple[CaptionOutcome, str]:
    item = row.item
    if item.caption != row.before:
        return CaptionOutcome.KEPT, item.caption
    if item.excluded:
        return CaptionOutcome.LEFT, item.caption
    try:
        text = clean_caption(told)
        caption = clean_caption(_joined(item.caption, text) if mode is CaptionMode.APPEND else text)
    except Refusal:  # there is no room for more words
        return CaptionOutcome.LEFT, item.caption
    if not text:
        return CaptionOutcome.LEFT, item.caption
    return (CaptionOutcome.SIMULATED if job.is_test else CaptionOutcome.WRITTEN), caption


def _joined(caption: str, text: str) -> str:
    """Return a caption with `text` after it, unless it says so already."""
    if not caption or text in caption:
        return caption or text
    return f"{caption}, {text}"
