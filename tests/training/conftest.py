"""What the tests of the training pages share: a signed-in browser and a waiting job."""

from __future__ import annotations

import pytest
from django.test import Client

from accounts.actor import Actor
from tests.scenario import Scenario
from tests.training.rows import make_base, make_version
from training.models import TrainingJob
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
