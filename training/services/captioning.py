"""Have captions written: for which pictures, by which captioner, and what becomes of the captions that are there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from django.utils.translation import gettext as _

from accounts.actor import Actor, require
from accounts.models import Team
from accounts.roles import Can
from core.errors import DomainError, NotFound
from projects.models import Dataset, Item
from projects.services.projects import refuse_archived
from projects.visibility import seen_by
from training.engine import captioning
from training.engine.captioning import CaptioningSpec
from training.engine.parsing import SpecError
from training.engine.spec import digest
from training.kinds import JobKind
from training.models import CaptionMode, TrainingJob, WantedCaption
from training.queue.policy import class_of_need
from training.services.captioners import OfferedCaptioner, captioner_by_key
from training.services.estimates import RAN
from training.services.form_tokens import make_once
from training.services.recipes import best_device, explain
from training.services.short_work import put_short_work_in_line
from training.states import JobState

# Fetching the pictures and loading the model, beside the writing.
SECONDS_AROUND = 10.0
# Seconds a picture, before a team's own orders tell: from the pixels, by a model on a processor and on a GPU.
_FROM_PIXELS, _ON_CPU, _ON_GPU = 0.05, 3.0, 0.15
RUNS_LOOKED_AT = 8
_ROWS_AT_ONCE = 2000


@dataclass(frozen=True, slots=True)
class CaptioningOrder:
    """Hold what the row of an order keeps as its `spec`: the engine's, and what the platform does with its words."""

    engine: CaptioningSpec
    key: str
    dataset: str
    mode: CaptionMode

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready data; `engine.model` is the name of a folder, "" for none."""
        return {
            "engine": self.engine.to_dict(),
            "captioner": self.key,
            "dataset": self.dataset,
            "mode": self.mode.value,
        }

    @classmethod
    def of(cls, job: TrainingJob) -> CaptioningOrder:
        """Read it from the row of an order."""
        spec = job.spec
        engine = CaptioningSpec.from_dict(spec["engine"])
        return cls(engine, spec["captioner"], spec["dataset"], CaptionMode(spec["mode"]))


def caption_items(
    *,
    actor: Actor,
    dataset: Dataset,
    captioner: str,
    items: Sequence[str] | None = None,
    mode: CaptionMode = CaptionMode.EMPTY,
    longest: int | None = None,
    form_token: str = "",
) -> TrainingJob:
    """Queue an order of captions for the pictures `items` (uids; None: all) of a dataset and return its job.

    Excluded pictures are left out. `longest` is in words. With `form_token` the same token gives the same job.
    Raise PermissionDenied, NotFound, QuotaExceeded, InsufficientCredits, Conflict (archived project) or DomainError
    (`captioner_unknown`, `invalid_settings`, `nothing_to_caption`).
    """
    require(actor, Can.DATASET_EDIT)
    require(actor, Can.TRAINING_EDIT)
    offered = captioner_by_key(captioner)
    order = CaptioningOrder(_spec(offered, longest), offered.key, dataset.uid, mode)

    def make() -> TrainingJob:
        found = _dataset(actor, dataset)
        wanted = _wanted(actor, found, items, mode)
        job = put_short_work_in_line(
            actor,
            JobKind.CAPTIONING,
            project=found.project,
            name=found.name,
            spec=order.to_dict(),
            spec_sha256=digest(order.to_dict()),
            estimated_seconds=estimate_captions(offered, len(wanted), team=actor.team),
            gpu_gb=_gpu_gb(offered),
            total_steps=len(wanted),
            noted={"dataset": found.uid, "pictures": len(wanted), "mode": mode.value},
        )
        WantedCaption.objects.bulk_create(
            [WantedCaption(team=actor.team, job=job, item_id=pk, before=text) for pk, text in wanted],
            batch_size=_ROWS_AT_ONCE,
        )
        return job

    # Looked up only once the token is taken: what was sent twice is not to find its own captions and be refused.
    return make_once(actor.team, form_token, digest({**order.to_dict(), "items": items}), make)


def estimate_captions(offered: OfferedCaptioner, count: int, *, team: Team) -> int:
    """Return about how many seconds `count` captions take (two queries): measured on the team's own if it has any."""
    rows = (
        TrainingJob.jobs.for_team(team)
        .filter(
            kind=JobKind.CAPTIONING,
            spec__captioner=offered.key,
            state=JobState.SUCCEEDED,
            is_test=False,
            started_at__isnull=False,
            step__gt=0,
        )
        .annotate(ran=RAN)
        .order_by("-finished_at")
        .values_list("step", "ran")[:RUNS_LOOKED_AT]
    )
    around = SECONDS_AROUND / 2
    speeds = [max(0.0, ran.total_seconds() - around) / step for step, ran in rows]
    if speeds:
        each = median(speeds)
    elif not offered.model:
        each = _FROM_PIXELS
    else:
        each = _ON_GPU if best_device().memory_mb else _ON_CPU
    return int(SECONDS_AROUND + each * count) + 1


def _spec(offered: OfferedCaptioner, longest: int | None) -> CaptioningSpec:
    data: dict[str, Any] = {"captioner": offered.captioner, "model": offered.model}
    if longest is not None:
        data["longest"] = longest
    try:
        return CaptioningSpec.from_dict(data)
    except SpecError as error:
        words = explain(error, captioning.FIELDS)
        raise DomainError("invalid_settings", words, pointer=error.pointer) from error


def _dataset(actor: Actor, dataset: Dataset) -> Dataset:
    rows = seen_by(actor, Dataset.objects.for_team(actor.team)).select_related("project")
    found: Dataset | None = rows.filter(pk=dataset.pk).first()
    if found is None:
        raise NotFound
    refuse_archived(found.project)
    return found


def _wanted(
    actor: Actor, dataset: Dataset, items: Sequence[str] | None, mode: CaptionMode
) -> list[tuple[int, str]]:
    """Return (pk, caption) of each picture that gets a caption, in the order they came."""
    rows = Item.objects.for_team(actor.team).filter(dataset=dataset, excluded=False)
    if items is not None:
        rows = rows.filter(uid__in=list(items))
    wanted = rows.filter(caption="") if mode is CaptionMode.EMPTY else rows
    found = list(wanted.order_by("pk").values_list("pk", "caption"))
    if found:
        return found
    if rows.exists():
        words = _(
            "Every one of these pictures has a caption. Choose to replace the captions or to add to them."
        )
    else:
        words = _("There are no pictures to caption here.")
    raise DomainError("nothing_to_caption", words, pointer="/items")


def _gpu_gb(offered: OfferedCaptioner) -> int:
    """Return the class of GPU: the weights, at most twice as large as stored, and a portion of pictures."""
    return class_of_need(int(2 * offered.size / 1e6) + 1000) if offered.size > 200_000_000 else 0
