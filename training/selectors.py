"""What the training pages read. Every function costs the same number of queries for 2 rows and for 200."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Case, Count, IntegerField, OuterRef, Q, QuerySet, Subquery, Value, When

from accounts.actor import Actor, require
from accounts.roles import Can
from core.errors import NotFound
from projects.models import (
    Dataset,
    DatasetVersion,
    DatasetVersionItem,
    Item,
    LoraFile,
    LoraSample,
    LoraVersion,
    Project,
)
from projects.visibility import seen_by
from training.kinds import JobKind
from training.models import Checkpoint, FoundationModel, JobEvent, Sample, TrainingJob
from training.states import LIVE, JobState

LOG_TYPES = ("log", "warning", "status")
LOG_LINES = 400
CURVE_POINTS = 1500
CHOICES_OFFERED = 200

# What the list of trainings can be narrowed to.
FILTERS: dict[str, frozenset[str]] = {
    "active": frozenset({*LIVE, JobState.QUEUED, JobState.PAUSED}),
    "done": frozenset({JobState.SUCCEEDED, JobState.STOPPED}),
    "failed": frozenset({JobState.FAILED, JobState.CANCELED}),
}


def _seen_jobs(actor: Actor) -> QuerySet[TrainingJob]:
    require(actor, Can.TRAINING_VIEW)
    return seen_by(actor, TrainingJob.objects.for_team(actor.team))


def jobs_of(actor: Actor) -> QuerySet[TrainingJob]:
    """Return the team's jobs, the newest first, each with its newest sample's uid as `cover`."""
    newest = Sample.objects.for_team(actor.team).filter(job=OuterRef("pk"), with_lora=True)
    jobs: QuerySet[TrainingJob] = (
        _seen_jobs(actor)
        .select_related(
            "project", "foundation_model", "dataset_version__dataset", "created_by", "lora_version"
        )
        .annotate(cover=Subquery(newest.order_by("-step", "prompt_index").values("uid")[:1]))
        .order_by("-created_at", "-id")
    )
    return jobs


def active_jobs(actor: Actor) -> list[TrainingJob]:
    """Return the jobs that run or wait, the running ones first."""
    order = Case(When(state=JobState.QUEUED, then=Value(1)), default=Value(0), output_field=IntegerField())
    jobs = jobs_of(actor).filter(state__in=FILTERS["active"]).annotate(waits=order)
    return list(jobs.order_by("waits", "queued_at")[:50])


def recent_jobs(actor: Actor, count: int = 5) -> list[TrainingJob]:
    """Return the jobs that ended last."""
    return list(jobs_of(actor).exclude(finished_at=None).order_by("-finished_at")[:count])


def project_jobs(actor: Actor, project: Project, count: int = 50) -> list[TrainingJob]:
    """Return the newest jobs of one project."""
    return list(jobs_of(actor).filter(project=project)[:count])


def live_count(actor: Actor) -> int:
    """Return how many jobs of the team a worker is busy with."""
    return _seen_jobs(actor).filter(state__in=LIVE).count()


def job_counts(actor: Actor) -> dict[str, int]:
    """Return how many jobs each filter has, and `all`."""
    counts: dict[str, int] = _seen_jobs(actor).aggregate(
        all=Count("id"), **{name: Count("id", filter=Q(state__in=states)) for name, states in FILTERS.items()}
    )
    return counts


def job_by_uid(actor: Actor, uid: str) -> TrainingJob:
    """Return a job of the team with what its page shows of other tables; raise NotFound."""
    job: TrainingJob | None = (
        _seen_jobs(actor)
        .select_related(
            "team",
            "project",
            "foundation_model",
            "dataset_version__dataset",
            "created_by",
            "worker",
            "retry_of",
            "lora_version__model",
        )
        .filter(uid=uid)
        .first()
    )
    if job is None:
        raise NotFound
    return job


def recent_versions(actor: Actor, count: int = 8) -> list[LoraVersion]:
    """Return the newest model versions, each with a sample's blob uid as `cover` and its prompt as `cover_prompt`."""
    require(actor, Can.MODEL_VIEW)
    drawn = LoraSample.objects.for_team(actor.team).filter(version=OuterRef("pk"), with_lora=True)
    drawn = drawn.order_by("-step", "prompt_index")
    versions = (
        seen_by(actor, LoraVersion.objects.for_team(actor.team), "model__project")
        .select_related("model__project")
        .annotate(
            cover=Subquery(drawn.values("blob__uid")[:1]), cover_prompt=Subquery(drawn.values("prompt")[:1])
        )
        .order_by("-created_at")
    )
    return list(versions[:count])


def foundation_models() -> list[FoundationModel]:
    """Return the base models that are offered, the demo one first."""
    return list(FoundationModel.objects.filter(is_active=True).order_by("-is_demo", "name"))


@dataclass(frozen=True, slots=True)
class FirstSteps:
    """Hold how far a team has come: its newest dataset and version, and whether it ever trained."""

    dataset: Dataset | None
    has_pictures: bool
    version: DatasetVersion | None


def first_steps(actor: Actor) -> FirstSteps:
    """Return how far a team without trainings has come (three queries)."""
    require(actor, Can.DATASET_VIEW)
    team = actor.team
    dataset = seen_by(actor, Dataset.objects.for_team(team)).order_by("-created_at").first()
    items = seen_by(actor, Item.objects.for_team(team), "dataset__project")
    pictures = bool(dataset) and items.exists()
    versions = seen_by(actor, DatasetVersion.objects.for_team(team), "dataset__project")
    version = versions.order_by("-created_at").first()
    return FirstSteps(dataset=dataset, has_pictures=pictures, version=version)


# -- Picture sets to train on -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PictureSet:
    """Be one choice: a frozen version, or a dataset that is frozen at the start."""

    uid: str
    name: str
    number: int | None
    project: str
    count: int


def picture_sets(actor: Actor) -> list[PictureSet]:
    """Return what can be trained on, the newest first (two queries)."""
    require(actor, Can.DATASET_VIEW)
    versions = (
        seen_by(actor, DatasetVersion.objects.for_team(actor.team), "dataset__project")
        .filter(dataset__project__archived_at=None)
        .select_related("dataset__project")
        .order_by("-created_at")[:CHOICES_OFFERED]
    )
    sets = [
        PictureSet(v.uid, v.dataset.name, v.number, v.dataset.project.name, v.item_count) for v in versions
    ]
    datasets = (
        seen_by(actor, Dataset.objects.for_team(actor.team))
        .filter(project__archived_at=None)
        .select_related("project")
        .annotate(included=Count("items", filter=Q(items__excluded=False)))
        .filter(included__gt=0)
        .order_by("-created_at")[:CHOICES_OFFERED]
    )
    sets += [PictureSet(d.uid, d.name, None, d.project.name, d.included) for d in datasets]
    return sets


def picture_source(actor: Actor, uid: str) -> DatasetVersion | Dataset | None:
    """Return the version or dataset with `uid`, or None."""
    require(actor, Can.DATASET_VIEW)
    if uid.startswith("dsv_"):
        versions = seen_by(actor, DatasetVersion.objects.for_team(actor.team), "dataset__project")
        found: DatasetVersion | Dataset | None = (
            versions.select_related("dataset__project", "team").filter(uid=uid).first()
        )
        return found
    datasets = seen_by(actor, Dataset.objects.for_team(actor.team)).select_related("project", "team")
    return datasets.filter(uid=uid).first()


def picture_strip(source: DatasetVersion | Dataset, count: int = 6) -> list[str]:
    """Return the blob uids of the first pictures of a version or dataset."""
    rows: QuerySet[Any]
    if isinstance(source, Dataset):
        rows = Item.objects.for_team(source.team).filter(dataset=source, excluded=False).order_by("id")
    else:
        rows = DatasetVersionItem.objects.for_team(source.team).filter(version=source).order_by("position")
    return list(rows.values_list("blob__uid", flat=True)[:count])


# -- One training -----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class SampleRow:
    """Be one row of the sample grid: the pictures of one step, one per prompt; None where none was drawn."""

    step: int
    with_lora: bool
    cells: list[Sample | None] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class SampleGrid:
    """Hold the prompts (columns) and the steps (rows, without the LoRA first)."""

    prompts: list[str]
    rows: list[SampleRow]


def sample_grid(job: TrainingJob) -> SampleGrid:
    """Return the sample pictures of a job as a grid (one query)."""
    samples = list(Sample.objects.for_team(job.team).filter(job=job).order_by("step", "prompt_index"))
    prompts: dict[int, str] = {}
    rows: dict[tuple[bool, int], dict[int, Sample]] = {}
    for sample in samples:
        prompts.setdefault(sample.prompt_index, sample.prompt)
        step = sample.step if sample.with_lora else 0
        rows.setdefault((sample.with_lora, step), {}).setdefault(sample.prompt_index, sample)
    columns = sorted(prompts)
    return SampleGrid(
        prompts=[prompts[column] for column in columns],
        rows=[
            SampleRow(step, with_lora, [cells.get(column) for column in columns])
            for (with_lora, step), cells in sorted(rows.items())
        ],
    )


def log_lines(job: TrainingJob) -> list[JobEvent]:
    """Return the last lines of the log up to the job's `last_seq`, oldest first (one query)."""
    rows = JobEvent.objects.for_team(job.team).filter(job=job, type__in=LOG_TYPES, seq__lte=job.last_seq)
    return list(rows.order_by("-seq")[:LOG_LINES])[::-1]


def checkpoints(job: TrainingJob) -> list[Checkpoint]:
    """Return the checkpoints with a file to download, the newest first; the final one stands for its own step."""
    rows = Checkpoint.objects.for_team(job.team).filter(job=job, export__isnull=False)
    found = list(rows.select_related("export").order_by("-is_final", "-step"))
    final = {each.step for each in found if each.is_final}
    return [each for each in found if each.is_final or each.step not in final]


def final_file(job: TrainingJob) -> LoraFile | None:
    """Return the finished file of the job's model version (one query)."""
    if job.lora_version_id is None:
        return None
    files = LoraFile.objects.for_team(job.team).filter(version_id=job.lora_version_id, is_final=True)
    return files.select_related("blob", "version").first()


def sample_by_uid(actor: Actor, uid: str) -> Sample:
    """Return a sample of the team with its blob; raise NotFound."""
    require(actor, Can.TRAINING_VIEW)
    samples = seen_by(actor, Sample.objects.for_team(actor.team), "job__project")
    sample: Sample | None = samples.select_related("blob__team").filter(uid=uid).first()
    if sample is None:
        raise NotFound
    return sample


def checkpoint_by_uid(actor: Actor, uid: str) -> Checkpoint:
    """Return a checkpoint of the team that has a file; raise NotFound."""
    require(actor, Can.WEIGHTS_DOWNLOAD)
    rows = seen_by(actor, Checkpoint.objects.for_team(actor.team), "job__project")
    rows = rows.select_related("export__team", "job")
    checkpoint: Checkpoint | None = rows.filter(uid=uid, export__isnull=False).first()
    if checkpoint is None:
        raise NotFound
    return checkpoint


# -- Pictures of the playground ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DrawnMix:
    """Hold the pictures of one mix of LoRAs, and what it is: (version or None if it is gone, strength) each."""

    uses: list[tuple[LoraVersion | None, float]]
    samples: list[Sample]


@dataclass(frozen=True, slots=True)
class Drawn:
    """Hold an order of pictures with what is drawn of it so far."""

    job: TrainingJob
    mixes: list[DrawnMix]


def generations_of(actor: Actor) -> QuerySet[TrainingJob]:
    """Return the team's orders of pictures, the newest first."""
    require(actor, Can.TRAINING_VIEW)
    rows = TrainingJob.jobs.for_team(actor.team).filter(kind=JobKind.GENERATION)
    jobs: QuerySet[TrainingJob] = seen_by(actor, rows).select_related(
        "team", "project", "foundation_model", "created_by"
    )
    return jobs.order_by("-created_at", "-id")


def generation_by_uid(actor: Actor, uid: str) -> TrainingJob:
    """Return an order of pictures; raise NotFound."""
    job = generations_of(actor).filter(uid=uid).first()
    if job is None:
        raise NotFound
    return job


def drawn_of(actor: Actor, jobs: Sequence[TrainingJob]) -> list[Drawn]:
    """Return the pictures of some orders (two queries)."""
    require(actor, Can.TRAINING_VIEW)
    samples: dict[int, list[Sample]] = {}
    for sample in Sample.objects.for_team(actor.team).filter(job__in=jobs).order_by("prompt_index"):
        samples.setdefault(sample.job_id, []).append(sample)
    wanted = {use["version"] for job in jobs for mix in job.spec["mixes"] for use in mix}
    rows = LoraVersion.objects.for_team(actor.team).filter(uid__in=wanted).select_related("model")
    versions = {row.uid: row for row in seen_by(actor, rows, "model__project")}
    found = []
    for job in jobs:
        of_mix = len(job.spec["prompts"]) * job.spec["count"]
        mixes = [
            DrawnMix(
                uses=[(versions.get(use["version"]), use["strength"]) for use in mix],
                samples=[each for each in samples.get(job.pk, []) if each.prompt_index // of_mix == number],
            )
            for number, mix in enumerate(job.spec["mixes"])
        ]
        found.append(Drawn(job, mixes))
    return found


def playable_versions(actor: Actor) -> list[LoraVersion]:
    """Return the model versions that pictures can be drawn with, the newest first (two queries)."""
    require(actor, Can.MODEL_VIEW)
    offered = FoundationModel.objects.filter(is_active=True).values("key")
    rows = seen_by(actor, LoraVersion.objects.for_team(actor.team), "model__project")
    rows = rows.filter(base_model__in=offered, model__project__archived_at=None, files__is_final=True)
    return list(rows.select_related("model__project").order_by("-created_at")[:CHOICES_OFFERED])
