"""The operator's constants of the queue: each can be set in the admin, and acts."""

from __future__ import annotations

from dataclasses import fields
from datetime import timedelta
from typing import Any

import pytest
from django.forms import model_to_dict
from django.test import Client
from django.utils import timezone

from accounts.models import User
from tests.scenario import Scenario
from tests.training.queueing import Bench, make_machine
from training.models import QueueSettings, TrainingJob, Worker
from training.queue.claim import claim_next
from training.queue.policy import Rules
from training.queue.rules import rules

PAGE = "/admin/training/queuesettings/add/"


@pytest.fixture
def desk(db: None) -> Client:
    """A browser of the operator."""
    client = Client()
    client.force_login(User.objects.create_superuser("root@example.org", "a long pass phrase"))
    return client


def usual() -> dict[str, Any]:
    return model_to_dict(QueueSettings(), exclude=["id"])


def test_every_constant_can_be_set_in_the_admin(desk: Client) -> None:
    assert desk.post(PAGE, {name: value + 1 for name, value in usual().items()}).status_code == 302
    same = [each.name for each in fields(Rules) if getattr(rules(), each.name) == getattr(Rules(), each.name)]
    assert same == []


def test_what_is_not_changed_is_as_without_settings(desk: Client) -> None:
    assert rules() == Rules()
    assert desk.post(PAGE, usual()).status_code == 302
    assert QueueSettings.objects.count() == 1
    assert rules() == Rules()


def test_a_machine_holds_slots_back_as_long_as_the_operator_says(
    desk: Client, scenario: Scenario, settings: Any
) -> None:
    settings.TEAM_MAX_RUNNING = 10
    bench = Bench(scenario.alice)
    Worker.objects.all().delete()
    slots = make_machine("one", 2)
    bench.job("running", waited=9000)
    assert claim_next(slots[0]) is not None
    double, single = bench.job("double", waited=5000, gpus=2), bench.job("single", waited=100)
    held = TrainingJob.objects.for_team(scenario.team).filter(pk=double.pk)
    held.update(held_since=timezone.now() - timedelta(seconds=605), held_node="one")
    assert claim_next(slots[1]) is None
    assert desk.post(PAGE, {**usual(), "hold_for": 600}).status_code == 302
    lease = claim_next(slots[1])
    assert lease is not None
    assert lease.job_uid == single.uid


def test_no_time_at_all_is_refused(desk: Client) -> None:
    page = desk.post(PAGE, {**usual(), "hold_for": 0})
    assert page.status_code == 200
    assert page.context["adminform"].form.errors.keys() == {"hold_for"}
    assert not QueueSettings.objects.exists()
