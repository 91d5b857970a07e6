"""Rows of the training pages for tests, the way the services and a worker would leave them."""

from __future__ import annotations

import hashlib
from typing import Any

from accounts.actor import Actor
from core.storage import blob_key, save_bytes
from projects.models import Blob, Dataset, DatasetVersion, DatasetVersionItem, Project
from tests.factories import png_bytes
from training.models import FoundationModel


def make_base(**fields: Any) -> FoundationModel:
    """Make a base model like the demo one."""
    values: dict[str, Any] = {
        "key": "demo",
        "name": "Foundry Demo",
        "family": "sd",
        "path": "base",
        "sha256": "a" * 64,
        "licence": "Apache-2.0",
        "resolution": 64,
        "memory_mb": 600,
        "prompts": ["a cat", "an apple", "a rocket", "a crown", "a ghost"],
        "is_demo": True,
    }
    return FoundationModel.objects.create(**{**values, **fields})


def make_blob(actor: Actor, seed: str = "a", content: bytes | None = None) -> Blob:
    """Store a picture (or `content`) for the actor's team."""
    content = content if content is not None else png_bytes((64, 64), seed)
    digest = hashlib.sha256(content).hexdigest()
    save_bytes(blob_key(actor.team.uid, digest), content)
    blob, _created = Blob.objects.for_team(actor.team).get_or_create(
        sha256=digest,
        defaults={
            "team": actor.team,
            "size": len(content),
            "content_type": "image/png",
            "width": 64,
            "height": 64,
        },
    )
    return blob


def make_version(
    actor: Actor, *, count: int = 24, caption: str = "a dog", name: str = "Ink"
) -> DatasetVersion:
    """Make a project with one dataset, frozen once with `count` pictures."""
    project = Project.objects.create(team=actor.team, name=f"Project {name}", created_by=actor.user)
    dataset = Dataset.objects.create(team=actor.team, project=project, name=name, created_by=actor.user)
    version = DatasetVersion.objects.create(
        team=actor.team,
        dataset=dataset,
        number=1,
        item_count=count,
        manifest_sha256="b" * 64,
        created_by=actor.user,
    )
    blob = make_blob(actor)
    DatasetVersionItem.objects.bulk_create(
        [
            DatasetVersionItem(
                team=actor.team,
                version=version,
                blob=blob,
                position=n,
                filename=f"{n}.png",
                caption=caption,
            )
            for n in range(count)
        ]
    )
    return version
