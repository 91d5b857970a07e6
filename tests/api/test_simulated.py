"""Test keys: a whole training in a moment, without a worker, a bill or a limit; marked wherever it shows."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from rest_framework.test import APIClient

from billing.models import UsageEntry
from core.models import OutboxMessage
from projects.models import LoraVersion
from tests.api.clients import API, with_key
from tests.scenario import Scenario
from tests.training.queueing import Bench
from training.models import TrainingJob
from training.queue.claim import claim_next
from training.tasks import mail_outcome, simulate_training

pytestmark = pytest.mark.django_db


@pytest.fixture
def bench(scenario: Scenario) -> Bench:
    return Bench(scenario.alice)


@pytest.fixture
def tester(scenario: Scenario) -> APIClient:
    return with_key(scenario.alice, is_test=True)


def start(client: APIClient, bench: Bench, **changes: Any) -> Any:
    body = {
        "dataset_version": bench.version.uid,
        "base_model": bench.base.key,
        "template": "style",
        "name": "Ink",
        "settings": {"training": {"steps": 50}},
        "metadata": {"order": "1"},
        **changes,
    }
    return client.post(f"{API}/trainings", body, format="json", headers={"Idempotency-Key": str(changes)})


def work() -> None:
    """Do the waiting short jobs that carry simulated trainings out."""
    for message in OutboxMessage.objects.filter(done_at=None, actor=simulate_training.actor_name):
        simulate_training.fn(message.pk, message.subject_uid)


def shown(client: APIClient, uid: str, part: str = "") -> Any:
    return client.get(f"{API}/trainings/{uid}{part}").json()


def test_a_success_has_everything_a_real_one_has(scenario: Scenario, tester: APIClient, bench: Bench) -> None:
    made = start(tester, bench)
    assert made.status_code == 201, made.json()
    uid = made.json()["id"]
    assert (made.json()["test"], made.json()["metadata"], made.json()["status"]) == (
        True,
        {"order": "1"},
        "queued",
    )
    assert claim_next(bench.worker) is None, "no worker takes it"
    work()
    done = shown(tester, uid)
    assert (done["status"], done["progress"]["step"], done["error"]) == ("succeeded", 50, None)
    kinds = {row["type"] for row in shown(tester, uid, "/events")["data"]}
    assert {"status", "log", "phase", "metrics", "sample", "checkpoint"} <= kinds
    assert [step for step, _loss in shown(tester, uid, "/metrics")["series"]["loss"]] == [10, 20, 30, 40, 50]
    [sample] = shown(tester, uid, "/samples")["data"]
    assert tester.get(sample["picture"])["Content-Type"] == "image/png"
    assert [row["is_final"] for row in shown(tester, uid, "/checkpoints")["data"]] == [True, False]
    version = tester.get(f"{API}/model_versions/{done['output']['model_version']}").json()
    assert version["engine_version"] == "simulated"
    assert tester.get(f"{API}/models/{done['output']['model']}").json()["name"] == "Ink (test)"
    content = tester.get(version["urls"]["download"], follow=True).getvalue()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    assert header["__metadata__"]["lf_simulated"] == "true"
    keys = sorted(key.rpartition("to_q.")[2] for key in header if key != "__metadata__")
    assert keys == ["alpha", "lora_down.weight", "lora_up.weight"]
    from safetensors.numpy import load

    assert {key: tensor.shape for key, tensor in load(content).items()}
    assert not UsageEntry.objects.for_team(scenario.team).exists()


@pytest.mark.parametrize(
    ("outcome", "status", "code"),
    [
        ("out_of_memory", "failed", "out_of_memory"),
        ("diverged", "failed", "diverged"),
        ("preempted", "succeeded", None),
    ],
)
def test_each_outcome_can_be_had(
    tester: APIClient, bench: Bench, outcome: str, status: str, code: str | None
) -> None:
    uid = start(tester, bench, simulate=outcome).json()["id"]
    work()
    done = shown(tester, uid)
    assert (done["status"], (done["error"] or {}).get("code")) == (status, code)
    states = [
        row["data"]["state"] for row in shown(tester, uid, "/events")["data"] if row["type"] == "status"
    ]
    assert states.count("queued") == (2 if outcome == "preempted" else 1)
    if code:
        retried = tester.post(
            f"{API}/trainings/{uid}/retry", {"settings": done["error"]["patch"]}, format="json"
        )
        assert (retried.status_code, retried.json()["test"]) == (201, True)


def test_only_a_test_key_chooses_the_outcome(scenario: Scenario, bench: Bench) -> None:
    answer = start(with_key(scenario.alice), bench, simulate="success")
    assert (answer.status_code, answer.json()["code"]) == (422, "simulate_needs_test_key")


def test_simulated_trainings_count_against_no_limit(
    scenario: Scenario, tester: APIClient, bench: Bench, settings: Any
) -> None:
    settings.TEAM_MAX_QUEUED = 1
    answers = [start(tester, bench, name=f"Ink {n}").status_code for n in range(3)]
    live = with_key(scenario.alice)
    answers.append(start(live, bench, name="Real").status_code)
    assert answers == [201] * 4
    refused = start(live, bench, name="Real too")
    assert (refused.status_code, refused.json()["quota"], refused.json()["used"]) == (
        429,
        "queued_trainings",
        1,
    )
    assert {row["name"] for row in live.get(f"{API}/trainings?test=false").json()["data"]} == {"Real"}
    assert len(live.get(f"{API}/trainings?test=true").json()["data"]) == 3


def test_wishes_are_obeyed(tester: APIClient, bench: Bench) -> None:
    uid = start(tester, bench).json()["id"]
    assert tester.post(f"{API}/trainings/{uid}/pause").json()["status"] == "paused"
    work()
    assert shown(tester, uid)["status"] == "paused"
    assert tester.post(f"{API}/trainings/{uid}/resume").json()["status"] == "queued"
    work()
    assert shown(tester, uid)["status"] == "succeeded"
    other = start(tester, bench, name="Other").json()["id"]
    assert tester.post(f"{API}/trainings/{other}/cancel").json()["status"] == "canceled"
    work()
    assert shown(tester, other)["status"] == "canceled"


def test_a_clone_needs_no_end_and_takes_changes(scenario: Scenario, tester: APIClient, bench: Bench) -> None:
    uid = start(tester, bench).json()["id"]
    answer = tester.post(
        f"{API}/trainings/{uid}/clone",
        {"name": "Seed 7", "settings": {"training": {"seed": 7}}},
        format="json",
    )
    body = answer.json()
    assert (answer.status_code, body["name"], body["spec"]["training"]["seed"], body["retry_of"]) == (
        201,
        "Seed 7",
        7,
        None,
    )
    assert (body["metadata"], body["test"]) == ({"order": "1"}, True)
    real = with_key(scenario.alice).post(f"{API}/trainings/{uid}/clone", {}, format="json")
    assert real.json()["test"] is False


def test_pages_say_test(scenario: Scenario, tester: APIClient, bench: Bench, client: Any) -> None:
    uid = start(tester, bench).json()["id"]
    client.force_login(scenario.alice.user)
    for address in (f"/t/atelier/trainings/{uid}/", "/t/atelier/trainings/"):
        assert ">Test</span>" in client.get(address).content.decode().replace("\n", ""), address
    work()
    assert client.get(f"/t/atelier/trainings/{uid}/").status_code == 200


def test_nobody_is_written_to(tester: APIClient, bench: Bench, mailoutbox: list[Any]) -> None:
    uid = start(tester, bench).json()["id"]
    work()
    for message in OutboxMessage.objects.filter(actor=mail_outcome.actor_name):
        mail_outcome.fn(message.pk, message.subject_uid)
    assert TrainingJob.objects.for_team(bench.actor.team).get(uid=uid).state == "succeeded"
    assert mailoutbox == []
    assert LoraVersion.objects.for_team(bench.actor.team).count() == 1
