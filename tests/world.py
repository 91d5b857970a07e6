"""One row of everything that has an address, for a team; used by the matrix and the wall tests."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import timedelta

from django.utils import timezone

from accounts.actor import Actor
from accounts.models import ExportState, Invitation, Membership, TeamExport, User
from accounts.roles import KEY_SCOPES, KEY_SCOPES_MORE, Can, Role
from accounts.services.api_keys import create_api_key
from core import storage
from notifications.services.webhooks import create_endpoint, send_test
from projects.models import (
    Blob,
    Dataset,
    DatasetVersion,
    DatasetVersionItem,
    Item,
    LoraFile,
    LoraModel,
    LoraSample,
    LoraVersion,
    Project,
    Upload,
)
from tests.factories import UserFactory, png_bytes
from training.models import CaptionMode, Checkpoint, FoundationModel, JobEvent, Sample, TrainingJob
from training.services.captioning import caption_items
from training.services.evaluations import evaluate_version
from training.services.generations import create_generation
from training.services.jobs import create_job
from training.states import JobState


@dataclass
class World:
    """The rows of one team by kind; `uids` gives the id that fills a route's `uid`."""

    actor: Actor
    project: Project
    dataset: Dataset
    item: Item
    blob: Blob
    version: DatasetVersion
    upload: Upload
    model: LoraModel
    model_version: LoraVersion
    file: LoraFile
    foundation: FoundationModel
    job: TrainingJob
    order: TrainingJob
    captioning: TrainingJob
    sample: Sample
    checkpoint: Checkpoint
    key_text: str
    read_key_text: str
    key_uid: str
    spare_key_uid: str
    member: User
    invitation: Invitation
    export: TeamExport
    extra: dict[str, str] = field(default_factory=dict)


def make_world(actor: Actor, seed: str) -> World:
    """Make one row of each kind for the actor's team."""
    team, person = actor.team, actor.user
    content = png_bytes(seed=seed)
    sha256 = hashlib.sha256(content).hexdigest()
    storage.save_bytes(storage.blob_key(team.uid, sha256), content)
    storage.save_bytes(storage.thumbnail_key(team.uid, sha256), content)
    blob = Blob.objects.create(
        team=team, sha256=sha256, size=len(content), content_type="image/png", width=64, height=48
    )
    project = Project.objects.create(team=team, name=f"Project {seed}", created_by=person)
    dataset = Dataset.objects.create(team=team, project=project, name="Set", created_by=person)
    item = Item.objects.create(team=team, dataset=dataset, blob=blob, filename="a.png", caption="cat")
    version = DatasetVersion.objects.create(
        team=team, dataset=dataset, number=1, item_count=1, manifest_sha256="1" * 64
    )
    DatasetVersionItem.objects.create(
        team=team, version=version, blob=blob, position=0, filename="a.png", caption="cat"
    )
    upload = Upload.objects.create(
        team=team, dataset=dataset, filename="b.png", size=10, expires_at=timezone.now(), created_by=person
    )
    foundation, _made = FoundationModel.objects.get_or_create(
        key="tiny",
        defaults={
            "name": "Tiny",
            "family": "sd",
            "path": "/nowhere",
            "sha256": "2" * 64,
            "licence": "Apache-2.0",
            "resolution": 64,
        },
    )
    job = create_job(
        actor=actor, dataset_version=version, foundation_model=foundation, template="style", name="Run"
    )
    now = timezone.now()
    TrainingJob.objects.for_team(team).filter(pk=job.pk).update(
        state=JobState.SUCCEEDED, finished_at=now, step=10, total_steps=10, last_seq=2
    )
    job.refresh_from_db()
    JobEvent.objects.create(
        team=team,
        job=job,
        seq=2,
        fence=1,
        type="log",
        at=timezone.now(),
        data={"level": "info", "message": "hi"},
    )
    order = create_generation(actor=actor, prompts=["cat"], base_model=foundation, project=project)
    TrainingJob.jobs.for_team(team).filter(pk=order.pk).update(state=JobState.SUCCEEDED, finished_at=now)
    order.refresh_from_db()
    captioning = caption_items(actor=actor, dataset=dataset, captioner="colours", mode=CaptionMode.REPLACE)
    TrainingJob.jobs.for_team(team).filter(pk=captioning.pk).update(state=JobState.SUCCEEDED, finished_at=now)
    captioning.refresh_from_db()
    sample = Sample.objects.create(
        team=team, job=job, blob=blob, step=10, epoch=1, prompt_index=0, prompt="cat", seed=1
    )
    weights = Blob.objects.create(
        team=team,
        sha256=hashlib.sha256(b"weights").hexdigest(),
        size=7,
        content_type="application/octet-stream",
    )
    storage.save_bytes(storage.blob_key(team.uid, weights.sha256), b"weights")
    checkpoint = Checkpoint.objects.create(
        team=team, job=job, fence=1, step=10, epoch=1, export=weights, is_final=True
    )
    model = LoraModel.objects.create(team=team, project=project, name="Model")
    model_version = LoraVersion.objects.create(
        team=team,
        model=model,
        number=1,
        training_uid=job.uid,
        dataset_version=version,
        base_model=foundation.key,
        base_sha256="2" * 64,
        recipe_sha256="3" * 64,
        seed=1,
        steps=10,
        rank=8,
        engine_version="1",
        verified_keys=12,
    )
    file = LoraFile.objects.create(
        team=team, version=model_version, blob=blob, filename="m.safetensors", step=10, epoch=1, is_final=True
    )
    LoraSample.objects.create(
        team=team, version=model_version, blob=blob, step=10, prompt_index=0, prompt="cat", seed=1
    )
    evaluation = evaluate_version(actor=actor, version=model_version)
    TrainingJob.jobs.for_team(team).filter(pk=evaluation.pk).update(state=JobState.SUCCEEDED, finished_at=now)
    every = KEY_SCOPES + KEY_SCOPES_MORE
    key = create_api_key(actor=actor, name="all", scopes=every)
    read_key = create_api_key(
        actor=actor,
        name="read",
        scopes=[c for c in every if c.value.endswith(":read") and c is not Can.WEIGHTS_DOWNLOAD],
    )
    guest = Membership.objects.create(team=team, user=UserFactory(), role=Role.VIEWER).user
    invitation = Invitation.objects.create(
        team=team, email=f"{seed}@example.org", role=Role.VIEWER, expires_at=now + timedelta(days=1)
    )
    endpoint = create_endpoint(actor=actor, url=f"https://hooks.example.org/{seed}").endpoint
    export = TeamExport.objects.create(
        team=team, state=ExportState.READY, size=1, expires_at=now + timedelta(days=1)
    )
    storage.save_bytes(storage.export_key(team.uid, export.uid), b"x")
    return World(
        actor=actor,
        extra={
            "webhook": endpoint.uid,
            "evaluation": evaluation.uid,
            "delivery": send_test(actor=actor, uid=endpoint.uid).uid,
        },
        project=project,
        dataset=dataset,
        item=item,
        blob=blob,
        version=version,
        upload=upload,
        model=model,
        model_version=model_version,
        file=file,
        foundation=foundation,
        job=job,
        order=order,
        captioning=captioning,
        sample=sample,
        checkpoint=checkpoint,
        key_text=key.text,
        read_key_text=read_key.text,
        member=guest,
        invitation=invitation,
        export=export,
        key_uid=key.key.uid,
        spare_key_uid=create_api_key(actor=actor, name="spare").key.uid,
    )
