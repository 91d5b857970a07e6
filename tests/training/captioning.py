"""A picture set to caption, and the hands of a worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.test import Client

from accounts.actor import Actor
from accounts.roles import KEY_SCOPES
from accounts.services.api_keys import create_api_key
from projects.models import Dataset, Item, Project
from tests.training.queueing import make_worker
from tests.training.rows import make_blob
from training.engine import events as told
from training.models import CaptionMode, TrainingJob, WantedCaption
from training.queue.claim import claim_next
from training.queue.lease import Lease
from training.services import telemetry
from training.services.captioning import caption_items


class Pictures:
    """A picture set with some captions, and what is done to it."""

    def __init__(self, actor: Actor, *captions: str, name: str = "Icons") -> None:
        self.actor = actor
        self.project = Project.objects.create(team=actor.team, name=f"P {name}", created_by=actor.user)
        self.dataset = Dataset.objects.create(
            team=actor.team, project=self.project, name=name, created_by=actor.user
        )
        self.items = [
            Item.objects.create(
                team=actor.team,
                dataset=self.dataset,
                blob=make_blob(actor, f"{name} {number}"),
                filename=f"{number}.png",
                caption=caption,
            )
            for number, caption in enumerate(captions)
        ]

    def order(self, mode: str = "empty", **values: Any) -> TrainingJob:
        given: dict[str, Any] = {"actor": self.actor, "dataset": self.dataset, "captioner": "colours"}
        return caption_items(**{**given, **values}, mode=CaptionMode(mode))

    def uids(self, *numbers: int) -> list[str]:
        return [self.items[number].uid for number in numbers]

    @property
    def captions(self) -> list[str]:
        rows = Item.objects.for_team(self.actor.team).filter(dataset=self.dataset).order_by("pk")
        return list(rows.values_list("caption", flat=True))


def wanted(job: TrainingJob) -> list[str]:
    rows = WantedCaption.objects.for_team(job.team).filter(job=job).order_by("pk")
    return list(rows.values_list("item__uid", flat=True))


def claim() -> Lease:
    lease = claim_next(make_worker())
    assert lease is not None
    return lease


def tell(lease: Lease, folder: Path, *told_events: told.Event) -> str:
    from django.utils import timezone

    return telemetry.record(lease, folder, [(event, timezone.now()) for event in told_events])


def api_of(actor: Actor, *, is_test: bool = False) -> Client:
    key = create_api_key(actor=actor, name="k", scopes=list(KEY_SCOPES), is_test=is_test)
    return Client(headers={"Authorization": f"Bearer {key.text}"})
