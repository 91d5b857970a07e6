"""Make, rename and delete datasets."""

from __future__ import annotations

from functools import partial

from django.db import IntegrityError, transaction
from django.db.models import ProtectedError
from django.utils.translation import gettext as _

from accounts.actor import Actor, require
from accounts.roles import Can
from accounts.services.audit import audit
from core import storage
from core.errors import Conflict, NotFound
from projects.models import Dataset
from projects.services.projects import checked_name, locked_project, refuse_archived, taken
from projects.services.uploads import part_keys, unfinished_uploads
from projects.visibility import seen_by


def create_dataset(*, actor: Actor, project_uid: str, name: str) -> Dataset:
    """Make an empty dataset in a project; raise NotFound, DomainError or Conflict (`name_taken`)."""
    require(actor, Can.DATASET_EDIT)
    name = checked_name(name)
    try:
        with transaction.atomic():
            project = locked_project(actor, project_uid)
            refuse_archived(project)
            dataset: Dataset = Dataset.objects.create(
                team=actor.team, project=project, name=name, created_by=actor.user
            )
            audit(actor, "dataset.created", dataset, project=project.uid)
    except IntegrityError as error:
        raise taken(error, "projects_dataset_name") from error
    return dataset


def rename_dataset(*, actor: Actor, uid: str, name: str) -> Dataset:
    """Rename a dataset; its versions keep their numbers."""
    require(actor, Can.DATASET_EDIT)
    name = checked_name(name)
    try:
        with transaction.atomic():
            dataset = locked_dataset(actor, uid)
            before, dataset.name = dataset.name, name
            dataset.save(update_fields=["name"])
            audit(actor, "dataset.renamed", dataset, before=before, after=dataset.name)
    except IntegrityError as error:
        raise taken(error, "projects_dataset_name") from error
    return dataset


def delete_dataset(*, actor: Actor, uid: str) -> None:
    """Delete a dataset with its pictures, versions and uploads; raise Conflict (`in_use`) once a training used it."""
    require(actor, Can.DATASET_EDIT)
    try:
        with transaction.atomic():
            # The full lock keeps uploads from being announced meanwhile.
            dataset = locked_dataset(actor, uid, no_key=False)
            for upload in unfinished_uploads(dataset):
                for key in part_keys(upload):
                    transaction.on_commit(partial(storage.delete, key), robust=True)
            audit(actor, "dataset.deleted", dataset)
            dataset.delete()
    except ProtectedError as error:
        raise Conflict(
            "in_use", _("A training used this dataset, so it stays. Archive the project instead.")
        ) from error


def locked_dataset(actor: Actor, uid: str, *, no_key: bool = True) -> Dataset:
    """Return a dataset of the actor's team under its row lock; raise NotFound."""
    dataset: Dataset | None = (
        seen_by(actor, Dataset.objects.for_team(actor.team))
        .select_for_update(no_key=no_key, of=("self",))
        .filter(uid=uid)
        .first()
    )
    if dataset is None:
        raise NotFound
    return dataset
