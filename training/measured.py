"""What the pages read of evaluations. Every function costs the same number of queries for 2 rows and for 200."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from django.db.models import QuerySet

from accounts.actor import Actor, require
from accounts.roles import Can
from core.errors import NotFound
from projects.models import LoraFile, LoraVersion
from projects.visibility import seen_by
from training.advisor.best_epoch import BestEpoch, best_epoch
from training.findings import Finding, Findings
from training.kinds import JobKind
from training.models import Sample, TrainingJob
from training.states import LIVE, JobState


@dataclass(frozen=True, slots=True)
class MeasuredFile:
    """Hold what is found of one file (or of the base model alone), its pictures, and the file if it is still there."""

    finding: Finding
    samples: list[Sample]
    file: LoraFile | None
    is_best: bool = False


@dataclass(frozen=True, slots=True)
class Measured:
    """Hold an evaluation: its job, the rows of its table, and the advice once it ended well."""

    job: TrainingJob
    version: LoraVersion | None
    base: MeasuredFile
    files: list[MeasuredFile]
    left_out: int
    advice: BestEpoch | None

    @property
    def is_live(self) -> bool:
        return self.job.state in LIVE or self.job.state == JobState.QUEUED

    @property
    def best(self) -> MeasuredFile | None:
        return next((each for each in self.files if each.is_best), None)


def evaluations_of(actor: Actor) -> QuerySet[TrainingJob]:
    """Return the team's evaluations, the newest first."""
    require(actor, Can.TRAINING_VIEW)
    rows = TrainingJob.jobs.for_team(actor.team).filter(kind=JobKind.EVALUATION)
    jobs: QuerySet[TrainingJob] = seen_by(actor, rows).select_related(
        "team", "project", "foundation_model", "created_by"
    )
    return jobs.order_by("-created_at", "-id")


def evaluation_by_uid(actor: Actor, uid: str) -> TrainingJob:
    """Return an evaluation; raise NotFound."""
    job = evaluations_of(actor).filter(uid=uid).first()
    if job is None:
        raise NotFound
    return job


def newest_evaluations(actor: Actor, versions: Iterable[LoraVersion]) -> dict[str, Measured]:
    """Return the newest evaluation of each version that has one, by the version's uid (four queries at most)."""
    uids = [version.uid for version in versions]
    rows = evaluations_of(actor).filter(evaluation__version__in=uids)
    jobs = rows.order_by("evaluation__version", "-created_at", "-id").distinct("evaluation__version")
    found = measured_of(actor, list(jobs))
    return {Findings.from_dict(each.job.evaluation or {}).version: each for each in found}


def measured_of(actor: Actor, jobs: Sequence[TrainingJob]) -> list[Measured]:
    """Return some evaluations with their files and pictures (three queries, none without a job)."""
    if not jobs:
        return []
    found = {job.pk: Findings.from_dict(job.evaluation or {}) for job in jobs}
    samples: dict[int, list[Sample]] = {}
    for sample in Sample.objects.for_team(actor.team).filter(job__in=jobs).order_by("prompt_index"):
        samples.setdefault(sample.job_id, []).append(sample)
    wanted = {each.file for findings in found.values() for each in findings.files}
    files = LoraFile.objects.for_team(actor.team).filter(uid__in=wanted).select_related("blob")
    by_uid = {file.uid: file for file in seen_by(actor, files, "version__model__project")}
    rows = LoraVersion.objects.for_team(actor.team).filter(uid__in={each.version for each in found.values()})
    versions = {
        row.uid: row for row in seen_by(actor, rows.select_related("model__project"), "model__project")
    }
    return [
        _measured(job, found[job.pk], samples.get(job.pk, []), by_uid, versions.get(found[job.pk].version))
        for job in jobs
    ]


def _measured(
    job: TrainingJob,
    findings: Findings,
    samples: Sequence[Sample],
    files: dict[str, LoraFile],
    version: LoraVersion | None,
) -> Measured:
    advice = best_epoch(findings) if job.state == JobState.SUCCEEDED else None
    best = advice.file.file if advice and advice.file else None
    of_file = len(job.spec["prompts"]) * job.spec["count"]
    rows = [
        MeasuredFile(
            finding,
            [each for each in samples if each.prompt_index // of_file == number],
            files.get(finding.file),
            is_best=finding.file == best,
        )
        for number, finding in enumerate((findings.base, *findings.files))
    ]
    return Measured(job, version, rows[0], rows[1:], findings.left_out, advice)
