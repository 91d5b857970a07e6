"""What the tests of the training pages share: a signed-in browser and a waiting job."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import FileSystemStorage, default_storage
from django.db import connection
from django.test import Client

from accounts.actor import Actor
from tests.scenario import Scenario, make_scenario
from tests.training.engines import Shop, Studio, make_tiny_base
from tests.training.rows import make_base, make_version
from training.models import TrainingJob
from training.queue.claim import CLAIM_LOCK
from training.services.jobs import create_job


def client_of(actor: Actor) -> Client:
    """Sign the actor in to a browser of their own."""
    client = Client()
    client.force_login(actor.user)
    return client


@pytest.fixture
def job(scenario: Scenario) -> TrainingJob:
    """A waiting job of Alice's team."""
    return create_job(
        actor=scenario.alice,
        dataset_version=make_version(scenario.alice),
        foundation_model=make_base(),
        template="style",
        name="Ink icons",
        trigger="ink style",
    )


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "tiny"
    make_tiny_base(folder)
    return folder


@pytest.fixture(scope="module")
def open_shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    shop = Shop(tmp_path_factory.mktemp("var"))
    yield shop
    shop.close()


@pytest.fixture
def shop(open_shop: Shop, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """A worker, and a folder that it and the test share.

    Between two tests the worker claims nothing: emptying the tables would meet its claim in a deadlock.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_unlock_all()")
    settings.VAR_DIR = open_shop.var
    files = FileSystemStorage(location=open_shop.var / "blobs", allow_overwrite=True)
    monkeypatch.setattr(default_storage, "_wrapped", files)
    yield open_shop
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [CLAIM_LOCK])


@pytest.fixture
def people() -> Scenario:
    return make_scenario()


@pytest.fixture
def studio(people: Scenario, base_folder: Path, shop: Shop) -> Studio:
    return Studio(people.alice, base_folder)
