"""The estimate of a training over the API: what GPUs and express make of its time and of what it is charged."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from accounts.roles import Can
from accounts.services.api_keys import create_api_key
from billing.services.ledger import held_for
from tests.billing.plans import on_plan
from tests.scenario import Scenario
from tests.training.conftest import client_of
from tests.training.queueing import Bench, make_machine
from training.models import QueueSettings, TrainingJob, Worker


@pytest.fixture
def bench(scenario: Scenario) -> Bench:
    """A team that pays by GPU time, and a machine with three GPUs."""
    on_plan(scenario, "pro", gpu_seconds_a_month=100_000, running_trainings=5)
    bench = Bench(scenario.alice)
    Worker.objects.all().delete()
    make_machine("one", 3)
    return bench


def send(bench: Bench, path: str, *, is_test: bool = False, **fields: Any) -> Any:
    key = create_api_key(
        actor=bench.actor, name="k", scopes=[Can.TRAINING_VIEW, Can.TRAINING_EDIT], is_test=is_test
    )
    body = {
        "dataset_version": bench.version.uid,
        "base_model": bench.base.key,
        "template": "style",
        "name": "Fast",
        "settings": {"training.steps": 60, "training.batch_size": 4},
    }
    return client_of(bench.actor).post(
        f"/api/v1{path}", json.dumps({**body, **fields}), content_type="application/json",
        headers={"authorization": f"Bearer {key.text}", "idempotency-key": key.key.uid},
    )  # fmt: skip


def quote(bench: Bench, **fields: Any) -> dict[str, Any]:
    answer = send(bench, "/trainings:estimate", **fields)
    assert answer.status_code == 200
    body: dict[str, Any] = answer.json()
    return body


def test_express_takes_as_long_and_is_charged_one_and_a_half(bench: Bench) -> None:
    usual, express = quote(bench), quote(bench, priority="express")
    seconds = usual["seconds"]
    assert (usual["rate"], usual["charged_seconds"]) == (1.0, seconds)
    assert (express["rate"], express["charged_seconds"]) == (1.5, math.ceil(1.5 * seconds))
    assert express["seconds"] == seconds
    QueueSettings.objects.create(pk=1, express_rate=3)
    assert quote(bench, priority="express")["charged_seconds"] == 3 * seconds


def test_several_gpus_take_less_time_and_each_is_charged(bench: Bench) -> None:
    one, two = quote(bench), quote(bench, gpus=2)
    assert two["seconds"] < one["seconds"]
    assert (two["rate"], two["charged_seconds"]) == (2.0, 2 * two["seconds"])
    both = quote(bench, gpus=2, priority="express")
    assert (both["rate"], both["charged_seconds"]) == (3.0, 3 * two["seconds"])


@pytest.mark.parametrize(
    "asked", [{}, {"gpus": 3}, {"priority": "express"}, {"gpus": 2, "priority": "express"}]
)
def test_a_start_reserves_what_the_estimate_says(bench: Bench, asked: dict[str, Any]) -> None:
    told = quote(bench, **asked)
    assert not TrainingJob.objects.for_team(bench.actor.team).exists()
    made = send(bench, "/trainings", **asked)
    assert made.status_code == 201
    job = TrainingJob.objects.for_team(bench.actor.team).get(uid=made.json()["id"])
    assert (job.rate, job.estimated_seconds) == (told["rate"], told["seconds"])
    assert sum(held_for(job.team, job.uid).values()) == told["held_seconds"]


@pytest.mark.parametrize(
    ("asked", "code", "pointer"),
    [
        ({"gpus": 4}, "too_many_gpus", "/gpus"),
        ({"gpus": 9}, "validation_failed", "/gpus"),
        ({"gpus": 0}, "validation_failed", "/gpus"),
        ({"priority": "soon"}, "validation_failed", "/priority"),
    ],
)
def test_what_no_training_could_be_asked_for_is_not_estimated(
    bench: Bench, asked: dict[str, Any], code: str, pointer: str
) -> None:
    answer = send(bench, "/trainings:estimate", **asked)
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (422, code)
    assert [row["pointer"] for row in problem["errors"]] == [pointer]


def test_a_plan_without_metering_charges_nothing_and_has_no_express(bench: Bench, scenario: Scenario) -> None:
    on_plan(scenario, "pro", gpu_seconds_a_month=None)
    told = quote(bench, gpus=2)
    assert (told["rate"], told["charged_seconds"], told["held_seconds"]) == (2.0, 0, 0)
    answer = send(bench, "/trainings:estimate", priority="express")
    assert (answer.status_code, answer.json()["code"]) == (422, "express_not_offered")


def test_a_test_key_is_charged_nothing_whatever_machines_there_are(bench: Bench) -> None:
    Worker.objects.all().delete()
    told = quote(bench, is_test=True, gpus=8, priority="express")
    assert (told["rate"], told["charged_seconds"], told["held_seconds"]) == (12.0, 0, 0)
