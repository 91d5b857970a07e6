"""What tests of the projects app share: API clients, logged-in browsers, datasets and a worker on demand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.test import Client
from rest_framework.test import APIClient

from accounts.actor import Actor
from accounts.services.api_keys import create_api_key
from core.models import OutboxMessage
from projects.models import Dataset, Item
from projects.services.blobs import store_blob
from projects.services.datasets import create_dataset
from projects.services.projects import create_project
from projects.tasks import ingest_upload
from tests.factories import png_bytes
from tests.scenario import Scenario


def api_client(actor: Actor, **kwargs: Any) -> APIClient:
    """Return a client with a fresh key of the actor's team, made by an owner of it."""
    key = create_api_key(actor=actor, name="test", **kwargs)
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {key.text}")
    return client


def browser(actor: Actor) -> Client:
    """Return a browser in which the actor is logged in."""
    client = Client()
    client.force_login(actor.user)
    return client


@dataclass
class Workshop:
    """Hold a project with one dataset and everybody's ways to it."""

    scenario: Scenario
    dataset: Dataset

    @property
    def alice(self) -> Actor:
        return self.scenario.alice

    def add(self, count: int = 1, caption: str = "a cup", start: int = 0) -> list[Item]:
        """Put pictures into the dataset as the services leave them."""
        items = []
        for number in range(start, start + count):
            blob = store_blob(
                team=self.scenario.team,
                content=png_bytes(seed=f"{self.dataset.pk}/{number}"),
                content_type="image/png",
                width=64,
                height=48,
                thumbnail=b"RIFF",
            )
            items.append(
                Item.objects.create(
                    team=self.scenario.team,
                    dataset=self.dataset,
                    blob=blob,
                    filename=f"{number:04d}.png",
                    stem=f"{number:04d}",
                    caption=caption,
                )
            )
        return items


@pytest.fixture
def workshop(scenario: Scenario) -> Workshop:
    project = create_project(actor=scenario.alice, name="Cups")
    dataset = create_dataset(actor=scenario.alice, project_uid=project.uid, name="First")
    return Workshop(scenario, dataset)


@pytest.fixture(autouse=True)
def _empty_storage() -> Any:
    """Leave no file of one test to the next."""
    yield
    if hasattr(default_storage, "_root"):
        default_storage._root._children.clear()


def run_media_worker() -> int:
    """Do the waiting work of the media queue, the way a worker would; return how many messages there were."""
    OutboxMessage.objects.update(taken_until=None)  # the lease of one that was killed ends
    messages = list(OutboxMessage.objects.filter(done_at=None, actor=ingest_upload.actor_name))
    for message in messages:
        ingest_upload.fn(message.pk, message.subject_uid)
    return len(messages)


Worker = Callable[[], int]


@pytest.fixture
def media_worker() -> Worker:
    return run_media_worker


@pytest.fixture
def api(workshop: Workshop) -> APIClient:
    """Return a client with a key of the team's owner."""
    return api_client(workshop.alice)


@pytest.fixture
def page(workshop: Workshop) -> Client:
    """Return a browser in which the team's owner is logged in."""
    return browser(workshop.alice)
