"""Asking for several GPUs: over the API, in the form, and what it costs."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from accounts.roles import Can
from accounts.services.api_keys import create_api_key
from core.errors import DomainError
from tests.scenario import Scenario
from tests.training.conftest import client_of
from tests.training.queueing import Bench, fresh, make_worker
from training.models import TrainingJob, Worker
from training.services.jobs import clone_job, create_job


@pytest.fixture
def bench(scenario: Scenario) -> Bench:
    bench = Bench(scenario.alice)
    Worker.objects.all().delete()
    for number in range(3):
        make_worker(f"gpu {number}", node="one", number=number, memory_mb=24_564)
    return bench


def order(bench: Bench, gpus: int) -> TrainingJob:
    return create_job(
        actor=bench.actor, dataset_version=bench.version, foundation_model=bench.base, template="style",
        name="Fast", gpus=gpus, settings={"training.steps": 60, "training.batch_size": 4},
    )  # fmt: skip


def post(bench: Bench, **fields: Any) -> Any:
    key = create_api_key(actor=bench.actor, name="k", scopes=[Can.TRAINING_VIEW, Can.TRAINING_EDIT])
    body = {
        "dataset_version": bench.version.uid,
        "base_model": bench.base.key,
        "template": "style",
        "name": "Fast",
    }
    return client_of(bench.actor).post(
        "/api/v1/trainings", {**body, **fields}, content_type="application/json",
        headers={"authorization": f"Bearer {key.text}", "idempotency-key": secrets.token_hex(8)},
    )  # fmt: skip


def test_a_training_asks_for_several_gpus(bench: Bench) -> None:
    answer = post(bench, gpus=3)
    assert (answer.status_code, answer.json()["gpus"]) == (201, 3)
    job = TrainingJob.objects.for_team(bench.actor.team).get(uid=answer.json()["id"])
    assert (job.gpus, job.rate) == (3, 3.0)
    assert post(bench).json()["gpus"] == 1


@pytest.mark.parametrize(
    ("gpus", "status", "code"), [(4, 422, "too_many_gpus"), (9, 422, None), (0, 422, None)]
)
def test_no_more_than_a_machine_has(bench: Bench, gpus: int, status: int, code: str | None) -> None:
    answer = post(bench, gpus=gpus)
    assert answer.status_code in (status, 400)
    assert code is None or answer.json()["code"] == code
    assert not TrainingJob.objects.for_team(bench.actor.team).exists()


def test_where_every_machine_has_one_slot_there_is_one(bench: Bench) -> None:
    Worker.objects.exclude(number=0).delete()
    with pytest.raises(DomainError) as refused:
        order(bench, 2)
    assert (refused.value.code, refused.value.pointer) == ("too_many_gpus", "/gpus")
    assert refused.value.message == "No machine here has 2 GPUs for one training. The most is 1."


def test_several_gpus_are_expected_to_take_a_part_of_the_time_of_one(bench: Bench) -> None:
    one, two = order(bench, 1), order(bench, 2)
    around = 2 * two.estimated_seconds - one.estimated_seconds
    assert 0 < around < one.estimated_seconds
    assert two.estimated_seconds < one.estimated_seconds


def test_a_clone_asks_for_as_many_as_a_machine_still_has(bench: Bench) -> None:
    job = order(bench, 3)
    assert fresh(clone_job(actor=bench.actor, job=job)).gpus == 3
    Worker.objects.filter(number=2).delete()
    again = fresh(clone_job(actor=bench.actor, job=job))
    assert (again.gpus, again.rate) == (2, 2.0)


def test_the_form_offers_what_the_machines_have(bench: Bench) -> None:
    client = client_of(bench.actor)
    page = f"/t/{bench.actor.team.slug}/trainings/new/"
    text = client.get(page).content.decode()
    assert 'name="gpus"' in text
    assert [f'<option value="{n}"' in text for n in (1, 2, 3, 4)] == [True, True, True, False]
    Worker.objects.exclude(number=0).delete()
    assert 'name="gpus"' not in client.get(page).content.decode()


def test_the_page_of_a_training_says_how_many_it_takes(bench: Bench) -> None:
    client = client_of(bench.actor)
    pages = [
        client.get(f"/t/{bench.actor.team.slug}/trainings/{order(bench, gpus).uid}/").content.decode()
        for gpus in (1, 2)
    ]
    assert ["<dt>GPUs</dt><dd>2</dd>" in page for page in pages] == [False, True]
