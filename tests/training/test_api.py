"""The training API: the whole life of a training over HTTP, and nothing for strangers."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.actor import Actor
from accounts.models import AuditEvent
from accounts.roles import Can
from accounts.services.api_keys import create_api_key
from core import storage
from tests.factories import png_bytes
from tests.scenario import Scenario
from tests.training.queueing import Bench, events, fresh
from tests.training.rows import make_blob
from training.engine import events as told
from training.models import Checkpoint, Sample, TrainingJob
from training.services import telemetry

API = "/api/v1"


def client_of(actor: Actor, **scopes: Any) -> APIClient:
    client = APIClient()
    key = create_api_key(actor=actor, name="test", **scopes)
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {key.text}")
    return client


@pytest.fixture
def bench(scenario: Scenario) -> Bench:
    return Bench(scenario.alice)


@pytest.fixture
def alice(scenario: Scenario) -> APIClient:
    return client_of(scenario.alice)


@pytest.fixture
def charlie(scenario: Scenario) -> APIClient:
    return client_of(scenario.charlie)


def order(bench: Bench, **changes: Any) -> dict[str, Any]:
    return {
        "dataset_version": bench.version.uid,
        "base_model": bench.base.key,
        "template": "style",
        "name": "By program",
        "trigger": "ink style",
        **changes,
    }


def post(client: APIClient, path: str, body: Any = None, key: str = "") -> Any:
    headers = {"Idempotency-Key": key} if key else {}
    return client.post(f"{API}{path}", body or {}, format="json", headers=headers)


def test_a_training_is_started_watched_and_canceled(alice: APIClient, bench: Bench) -> None:
    made = post(alice, "/trainings", order(bench, settings={"training": {"steps": 50}}), key="k1")
    assert made.status_code == 201
    body = made.json()
    assert (body["object"], body["status"], body["base_model"]) == ("training", "queued", "demo")
    assert body["progress"]["total_steps"] == body["spec"]["training"]["steps"] == 50
    assert (body["error"], body["output"], body["retry_of"]) == (None, None, None)
    assert body["urls"]["self"].endswith(f"{API}/trainings/{body['id']}")
    seen = alice.get(f"{API}/trainings/{body['id']}").json()
    assert seen == body
    listed = alice.get(f"{API}/trainings?status=queued").json()
    assert [row["id"] for row in listed["data"]] == [body["id"]]
    canceled = post(alice, f"/trainings/{body['id']}/cancel")
    assert (canceled.status_code, canceled.json()["status"]) == (200, "canceled")
    told_events = alice.get(f"{API}/trainings/{body['id']}/events?after=1").json()
    assert [(row["seq"], row["type"], row["data"]) for row in told_events["data"]] == [
        (2, "status", {"state": "canceled", "desired": ""})
    ]
    assert (told_events["has_more"], told_events["next_after"]) == (False, 2)


def test_a_training_needs_an_idempotency_key_and_is_made_once(alice: APIClient, bench: Bench) -> None:
    assert post(alice, "/trainings", order(bench)).json()["code"] == "idempotency_key_missing"
    first = post(alice, "/trainings", order(bench), key="same")
    again = post(alice, "/trainings", order(bench), key="same")
    assert (first.status_code, again.status_code, first.json()) == (201, 201, again.json())
    other = post(alice, "/trainings", order(bench, name="Another"), key="same")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert TrainingJob.objects.for_team(bench.actor.team).count() == 1


@pytest.mark.parametrize(
    ("change", "status", "code", "pointer"),
    [
        ({"dataset_version": "dsv_unknown"}, 422, "dataset_version_unknown", "/dataset_version"),
        ({"base_model": "unknown"}, 422, "base_model_unknown", "/base_model"),
        ({"settings": {"training.steps": 0}}, 422, "invalid_settings", "/settings/training/steps"),
        ({"settings": {"base_model.path": "/etc"}}, 422, "invalid_settings", "/settings/base_model/path"),
        ({"template": "unknown"}, 422, "validation_failed", "/template"),
        ({"stpes": 5}, 400, "validation_failed", "/stpes"),
    ],
)
def test_a_wrong_order_is_refused_where_it_is_wrong(
    alice: APIClient, bench: Bench, change: dict[str, Any], status: int, code: str, pointer: str
) -> None:
    answer = post(alice, "/trainings", order(bench, **change), key="k")
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code)
    assert pointer in [row["pointer"] for row in problem["errors"]]
    assert not TrainingJob.objects.for_team(bench.actor.team).exists()


def test_another_teams_dataset_version_is_unknown(charlie: APIClient, bench: Bench) -> None:
    answer = post(charlie, "/trainings", order(bench), key="k")
    assert (answer.status_code, answer.json()["code"]) == (422, "dataset_version_unknown")


def test_an_estimate_starts_nothing(alice: APIClient, bench: Bench) -> None:
    answer = post(alice, "/trainings:estimate", order(bench, settings={"training.steps": 80}))
    assert answer.status_code == 200
    body = answer.json()
    assert (body["object"], body["steps"], body["pictures"] + body["held_out"]) == ("estimate", 80, 24)
    assert body["seconds"] > 0
    assert not TrainingJob.objects.for_team(bench.actor.team).exists()


def test_pause_resume_and_stop_follow_the_states(alice: APIClient, bench: Bench) -> None:
    job = bench.job()
    path = f"/trainings/{job.uid}"
    assert post(alice, f"{path}/pause").json()["status"] == "paused"
    assert post(alice, f"{path}/resume").json()["status"] == "queued"
    stopped = post(alice, f"{path}/stop")
    assert (stopped.status_code, stopped.json()["code"]) == (409, "nothing_learned")
    bench.claim()
    waiting = post(alice, f"{path}/cancel").json()
    assert (waiting["status"], waiting["desired"]) == ("starting", "cancel")


def test_a_training_is_renamed_and_noted_but_its_recipe_stays(alice: APIClient, bench: Bench) -> None:
    made = post(alice, "/trainings", order(bench), key="k").json()
    address = f"/api/v1/trainings/{made['id']}"
    changed = alice.patch(
        address, {"name": " Winter  ink ", "metadata": {"order": "7"}}, format="json"
    ).json()
    assert (changed["name"], changed["metadata"]) == ("Winter ink", {"order": "7"})
    assert (changed["spec"], changed["status"]) == (made["spec"], made["status"])
    assert alice.patch(address, {}, format="json").json() == changed
    refused = alice.patch(address, {"spec": {"steps": 1}}, format="json")
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (400, "unknown_field")
    events = AuditEvent.objects.for_team(bench.actor.team).filter(verb="training.changed")
    assert events.get().data["before"]["name"] == made["name"]


def test_a_finished_training_is_retried_with_a_change(alice: APIClient, bench: Bench) -> None:
    job = bench.job()
    early = post(alice, f"/trainings/{job.uid}/retry")
    assert (early.status_code, early.json()["code"]) == (409, "not_finished")
    post(alice, f"/trainings/{job.uid}/cancel")
    answer = post(alice, f"/trainings/{job.uid}/retry", {"settings": {"/training/batch_size": 3}})
    assert answer.status_code == 201
    body = answer.json()
    assert (body["retry_of"], body["spec"]["training"]["batch_size"]) == (job.uid, 3)


def test_samples_and_checkpoints_are_listed_and_fetched(alice: APIClient, bench: Bench) -> None:
    job = bench.job()
    picture = make_blob(bench.actor, "sample")
    weights = make_blob(bench.actor, content=b"safetensors")
    sample = Sample.objects.create(
        team=job.team, job=job, blob=picture, step=5, epoch=1, prompt_index=0, prompt="a cat", seed=42
    )
    checkpoint = Checkpoint.objects.create(team=job.team, job=job, fence=1, step=5, epoch=1, export=weights)
    Checkpoint.objects.create(team=job.team, job=job, fence=1, step=9, epoch=1, state_key="only/state")
    samples = alice.get(f"{API}/trainings/{job.uid}/samples").json()["data"]
    assert [(row["id"], row["step"], row["prompt"], row["with_lora"]) for row in samples] == [
        (sample.uid, 5, "a cat", True)
    ]
    shown = alice.get(samples[0]["picture"])
    assert (shown.status_code, shown["Content-Type"], shown.content) == (
        200,
        "image/png",
        png_bytes((64, 64), "sample"),
    )
    files = alice.get(f"{API}/trainings/{job.uid}/checkpoints").json()["data"]
    digest = hashlib.sha256(b"safetensors").hexdigest()
    assert [(row["id"], row["step"], row["sha256"], row["size"]) for row in files] == [
        (checkpoint.uid, 5, digest, 11)
    ]
    fetched = alice.get(files[0]["download"], follow=True)
    assert fetched.getvalue() == b"safetensors"
    assert "Ink_style-step00000005.safetensors" in fetched["Content-Disposition"]


def test_a_stranger_gets_404_everywhere_and_nothing_changes(charlie: APIClient, bench: Bench) -> None:
    job = bench.job()
    sample = Sample.objects.create(
        team=job.team,
        job=job,
        blob=make_blob(bench.actor),
        step=5,
        epoch=1,
        prompt_index=0,
        prompt="",
        seed=1,
    )
    checkpoint = Checkpoint.objects.create(
        team=job.team, job=job, fence=1, step=5, epoch=1, export=make_blob(bench.actor, content=b"w")
    )
    before = (fresh(job).state, events(job))
    addresses = [f"/trainings/{job.uid}{part}" for part in ("", "/events", "/samples", "/checkpoints")]
    addresses += [f"/samples/{sample.uid}/picture", f"/checkpoints/{checkpoint.uid}/download"]
    assert [charlie.get(API + address).status_code for address in addresses] == [404] * 6
    verbs = ("cancel", "stop", "pause", "resume", "retry")
    assert [post(charlie, f"/trainings/{job.uid}/{verb}").status_code for verb in verbs] == [404] * 5
    assert charlie.get(f"{API}/trainings").json()["data"] == []
    assert (fresh(job).state, events(job)) == before


def test_a_key_that_may_only_read_starts_and_cancels_nothing(scenario: Scenario, bench: Bench) -> None:
    reader = client_of(scenario.alice, scopes=[Can.TRAINING_VIEW])
    job = bench.job()
    assert post(reader, "/trainings", order(bench), key="k").status_code == 403
    assert post(reader, f"/trainings/{job.uid}/cancel").status_code == 403
    assert reader.get(f"{API}/trainings/{job.uid}").status_code == 200
    checkpoint = Checkpoint.objects.create(
        team=job.team, job=job, fence=1, step=5, epoch=1, export=make_blob(bench.actor, content=b"w")
    )
    assert reader.get(f"{API}/checkpoints/{checkpoint.uid}/download").status_code == 403
    assert fresh(job).state == "queued"


def test_without_a_key_there_is_nothing(bench: Bench) -> None:
    answer = APIClient().get(f"{API}/trainings")
    assert (answer.status_code, answer["Content-Type"]) == (401, "application/problem+json")


def test_base_models_and_templates_are_offered(alice: APIClient, bench: Bench) -> None:
    bases = alice.get(f"{API}/base_models").json()["data"]
    assert [(row["id"], row["object"], row["resolution"]) for row in bases] == [("demo", "base_model", 64)]
    assert "path" not in bases[0]
    templates = alice.get(f"{API}/templates").json()["data"]
    assert [row["id"] for row in templates] == ["character", "style", "product", "concept"]


def test_events_come_in_pages(alice: APIClient, bench: Bench, tmp_path: Path) -> None:
    job = bench.job()
    lease = bench.claim()
    logs = [(told.Log("info", str(number)), timezone.now()) for number in range(700)]
    telemetry.record(lease, tmp_path, logs)
    first = alice.get(f"{API}/trainings/{job.uid}/events").json()
    assert (len(first["data"]), first["has_more"], first["next_after"]) == (500, True, 500)
    second = alice.get(f"{API}/trainings/{job.uid}/events?after=500").json()
    assert [row["seq"] for row in second["data"]] == list(range(501, 703))
    assert second["has_more"] is False
    wrong = alice.get(f"{API}/trainings/{job.uid}/events?after=x")
    assert (wrong.status_code, wrong.json()["errors"][0]["pointer"]) == (422, "/after")


def test_the_number_of_queries_does_not_grow_with_the_list(
    alice: APIClient, bench: Bench, django_assert_max_num_queries: Any
) -> None:
    for number in range(12):
        bench.job(f"job {number}")
    with django_assert_max_num_queries(5):
        assert len(alice.get(f"{API}/trainings").json()["data"]) == 12


def test_a_lost_file_is_not_found_rather_than_an_error(alice: APIClient, bench: Bench) -> None:
    job = bench.job()
    blob = make_blob(bench.actor, content=b"gone")
    checkpoint = Checkpoint.objects.create(team=job.team, job=job, fence=1, step=5, epoch=1, export=blob)
    storage.delete(storage.blob_key(job.team.uid, blob.sha256))
    link = alice.get(f"{API}/checkpoints/{checkpoint.uid}/download")
    assert (link.status_code, alice.get(link["Location"]).status_code) == (302, 404)
