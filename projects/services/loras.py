"""Register what a training produced in the model registry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.db import IntegrityError, transaction
from django.db.models import Max

from accounts.actor import Actor, require
from accounts.models import Team, User
from accounts.roles import Can
from accounts.services.audit import audit
from core.errors import NotFound
from notifications.events import EventType, Subject
from notifications.services.webhooks import emit
from projects.models import (
    Blob,
    DatasetVersion,
    LoraFile,
    LoraModel,
    LoraSample,
    LoraVersion,
    Project,
)
from projects.services.projects import checked_name, taken
from projects.visibility import seen_by


@dataclass(frozen=True, slots=True)
class NewFile:
    """Name one downloadable `.safetensors`: the final one or a kept checkpoint."""

    blob: Blob
    filename: str
    step: int
    epoch: int
    is_final: bool = False


@dataclass(frozen=True, slots=True)
class NewSample:
    """Name one picture drawn with the version (`with_lora`) or with the adapter off."""

    blob: Blob
    step: int
    prompt_index: int
    prompt: str
    seed: int
    with_lora: bool = True


def register_version(
    *,
    team: Team,
    project: Project,
    name: str,
    created_by: User | None,
    training_uid: str,
    dataset_version: DatasetVersion | None,
    base_model: str,
    base_sha256: str,
    recipe_sha256: str,
    seed: int,
    steps: int,
    rank: int,
    engine_version: str,
    verified_keys: int,
    trigger_words: str = "",
    files: Sequence[NewFile],
    samples: Sequence[NewSample] = (),
) -> LoraVersion:
    """Make the next version of the model `name` of `project`; a repeat for the same training changes nothing.

    Called by the worker at the end of a training, hence with a team and no actor: the training was allowed when
    it was started.
    """
    versions = LoraVersion.objects.for_team(team)
    with transaction.atomic():
        # One at a time per project: version numbers have no gaps, and a repeat sees the first.
        Project.objects.for_team(team).select_for_update(no_key=True).get(pk=project.pk)
        done: LoraVersion | None = versions.filter(training_uid=training_uid).first()
        if done is not None:
            return done
        model, _is_new = LoraModel.objects.for_team(team).get_or_create(
            project=project, name=name.strip()[:80], defaults={"team": team}
        )
        # Models made before numbers were kept know only the versions that are left.
        newest = versions.filter(model=model).aggregate(newest=Max("number"))["newest"] or 0
        model.last_number = max(model.last_number, newest) + 1
        model.save(update_fields=["last_number"])
        version: LoraVersion = LoraVersion.objects.create(
            team=team,
            model=model,
            number=model.last_number,
            trigger_words=trigger_words[:200],
            training_uid=training_uid,
            dataset_version=dataset_version,
            base_model=base_model,
            base_sha256=base_sha256,
            recipe_sha256=recipe_sha256,
            seed=seed,
            steps=steps,
            rank=rank,
            engine_version=engine_version,
            verified_keys=verified_keys,
            created_by=created_by,
        )
        LoraFile.objects.bulk_create(
            LoraFile(
                team=team,
                version=version,
                blob=file.blob,
                filename=file.filename[:255],
                step=file.step,
                epoch=file.epoch,
                is_final=file.is_final,
            )
            for file in files
        )
        LoraSample.objects.bulk_create(
            LoraSample(
                team=team,
                version=version,
                blob=sample.blob,
                step=sample.step,
                prompt_index=sample.prompt_index,
                prompt=sample.prompt[:500],
                seed=sample.seed,
                with_lora=sample.with_lora,
            )
            for sample in samples
        )
        subject = Subject(
            uid=version.uid,
            kind="model_version",
            name=str(version),
            path=f"/t/{team.slug}/models/{model.uid}/",
            more={"model": model.uid, "number": version.number, "training": training_uid},
        )
        emit(team, EventType.MODEL_VERSION_CREATED, subject)
        return version


def change_model(
    *, actor: Actor, uid: str, name: str | None = None, description: str | None = None
) -> LoraModel:
    """Rename or describe a model; what is None stays. Raise NotFound, DomainError or Conflict (`name_taken`)."""
    require(actor, Can.MODEL_EDIT)
    try:
        with transaction.atomic():
            rows = seen_by(actor, LoraModel.objects.for_team(actor.team))
            model: LoraModel | None = (
                rows.select_for_update(no_key=True, of=("self",)).filter(uid=uid).first()
            )
            if model is None:
                raise NotFound
            before = {"name": model.name, "description": model.description}
            model.name = checked_name(name) if name is not None else model.name
            model.description = description.strip() if description is not None else model.description
            after = {"name": model.name, "description": model.description}
            if after != before:
                model.save(update_fields=["name", "description"])
                audit(actor, "model.changed", model, before=before, after=after)
    except IntegrityError as error:
        raise taken(error, "projects_loramodel_name") from error
    return model


def delete_model(*, actor: Actor, uid: str) -> None:
    """Delete a model with its versions, files and samples; its trainings stay. Raise NotFound."""
    require(actor, Can.MODEL_EDIT)
    with transaction.atomic():
        rows = seen_by(actor, LoraModel.objects.for_team(actor.team))
        model: LoraModel | None = rows.select_for_update(of=("self",)).filter(uid=uid).first()
        if model is None:
            raise NotFound
        numbers = list(model.versions.order_by("number").values_list("number", flat=True))
        audit(actor, "model.deleted", model, versions=numbers)
        model.delete()


def delete_version(*, actor: Actor, uid: str) -> None:
    """Delete one version with its files and samples; the numbers of the others stay. Raise NotFound."""
    require(actor, Can.MODEL_EDIT)
    with transaction.atomic():
        rows = seen_by(actor, LoraVersion.objects.for_team(actor.team), "model__project")
        version: LoraVersion | None = (
            rows.select_related("model").select_for_update(of=("self",)).filter(uid=uid).first()
        )
        if version is None:
            raise NotFound
        audit(actor, "model_version.deleted", version, model=version.model.uid)
        version.delete()
