"""Which file of a model version is best: the model's page, the API, and test keys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.roles import KEY_SCOPES
from accounts.services.api_keys import create_api_key
from projects.models import LoraFile, LoraModel, LoraVersion
from tests.scenario import Scenario
from tests.training.conftest import client_of
from tests.training.measuring import add_file, evaluation, orders, page, tell
from tests.training.queueing import fresh
from tests.world import World, make_world
from training.models import FoundationModel, Sample, TrainingJob
from training.services.evaluations import evaluate_version
from training.states import JobState

pytestmark = pytest.mark.django_db


@pytest.fixture
def world(scenario: Scenario) -> World:
    made = make_world(scenario.alice, "mine")
    add_file(scenario, made.model_version, 5)
    return made


# -- The page ---------------------------------------------------------------------------------------------------


@pytest.fixture
def unmeasured(scenario: Scenario, world: World) -> World:
    TrainingJob.jobs.for_team(scenario.team).filter(uid=world.extra["evaluation"]).delete()
    return world


def test_the_button_orders_once_and_the_card_is_live(scenario: Scenario, unmeasured: World) -> None:
    world = unmeasured
    shown = page(scenario, world)
    assert "Measure every file" in shown
    assert "with each of the 2 files" in shown
    address = f"/t/{scenario.team.slug}/model_versions/{world.model_version.uid}/evaluate/"
    before = orders(scenario)
    for _time in range(2):
        answer = client_of(scenario.alice).post(address, {"form_token": "t"})
        assert answer.status_code == 303
        assert answer["Location"] == (
            f"/t/{scenario.team.slug}/models/{world.model.uid}/#measured-{world.model_version.uid}"
        )
    assert orders(scenario) == before + 1
    job = TrainingJob.jobs.for_team(scenario.team).order_by("-pk")[0]
    shown = page(scenario, world)
    assert f'data-job="{job.uid}"' in shown
    assert "Measure every file" not in shown
    cancel = client_of(scenario.alice).post(f"/t/{scenario.team.slug}/evaluations/{job.uid}/cancel/")
    assert cancel["Location"] == answer["Location"]
    assert fresh(job).state == "canceled"
    assert "Measure again" in page(scenario, world)


def test_the_recommended_file_is_marked_with_its_reason_pictures_and_download(
    scenario: Scenario, world: World, tmp_path: Path
) -> None:
    job = tell(evaluation(scenario, world), tmp_path, (2.0, 1.0), (0.6, 1.0), (0.4, 0.5))
    shown = page(scenario, world)
    early = world.model_version.files.get(step=5)
    assert "Step 5 is recommended" in shown
    assert "From step 10 on prompts are followed less (50% instead of 100%)" in shown
    assert "<td class=\"num\">0.60</td><td class=\"num\">100 %</td>" in shown  # fmt: skip
    assert f"/lora-files/{early.uid}/download/" in shown
    for uid in Sample.objects.for_team(scenario.team).filter(job=job).values_list("uid", flat=True):
        assert shown.count(f"/samples/{uid}/") == 2  # the picture and what it leads to
    for_viewer = page(scenario, world, scenario.bob)
    assert "Step 5 is recommended" in for_viewer
    assert "Measure again" not in for_viewer
    alone = client_of(scenario.bob).get(f"/t/{scenario.team.slug}/evaluations/{job.uid}/")
    assert "Files compared" in alone.content.decode()


def test_a_deleted_file_keeps_its_figures_and_a_deleted_model_its_page(
    scenario: Scenario, world: World, tmp_path: Path
) -> None:
    job = tell(evaluation(scenario, world), tmp_path, (2.0, 1.0), (0.6, 1.0), (0.4, 0.5))
    LoraFile.objects.for_team(scenario.team).filter(step=5).delete()
    shown = page(scenario, world)
    assert '<span class="text-muted">deleted</span>' in shown
    LoraModel.objects.for_team(scenario.team).delete()
    alone = client_of(scenario.alice).get(f"/t/{scenario.team.slug}/evaluations/{job.uid}/")
    assert "Step 5 is recommended" in alone.content.decode()


def test_a_version_with_one_file_offers_no_measuring(scenario: Scenario, unmeasured: World) -> None:
    LoraFile.objects.for_team(scenario.team).filter(step=5).delete()
    shown = page(scenario, unmeasured)
    assert "Measure every file" not in shown


def test_a_refusal_is_said_on_the_page(scenario: Scenario, world: World) -> None:
    FoundationModel.objects.update(is_active=False)
    address = f"/t/{scenario.team.slug}/model_versions/{world.model_version.uid}/evaluate/"
    answer = client_of(scenario.alice).post(address, follow=True)
    assert "The base model of this version is not offered here any more." in answer.content.decode()


def test_an_evaluation_that_rests_is_resumed(scenario: Scenario, world: World) -> None:
    job = evaluation(scenario, world)
    TrainingJob.jobs.for_team(scenario.team).filter(pk=job.pk).update(state=JobState.PAUSED)
    answer = client_of(scenario.alice).post(f"/t/{scenario.team.slug}/evaluations/{job.uid}/resume/")
    assert (answer.status_code, fresh(job).state) == (303, "queued")


def test_the_model_page_costs_the_same_for_one_measured_version_and_for_five(
    scenario: Scenario, world: World
) -> None:
    client = client_of(scenario.alice)
    address = f"/t/{scenario.team.slug}/models/{world.model.uid}/"
    counts = []
    for more in (0, 4):
        for number in range(more):
            version = LoraVersion.objects.for_team(scenario.team).get(pk=world.model_version.pk)
            version.pk, version.uid, version.number = None, f"mdv_{number:026}", number + 2
            version.training_uid = f"trn_{number:026}"
            version.save()
            add_file(scenario, version, 3)
            job = evaluate_version(actor=scenario.alice, version=version)
            Sample.objects.create(
                team=scenario.team, job=job, blob=world.blob, step=0, epoch=0, prompt_index=0, prompt="a", seed=1
            )  # fmt: skip
        client.get(address)
        with CaptureQueriesContext(connection) as seen:
            client.get(address)
        counts.append(len(seen))
    assert counts[0] == counts[1]


# -- The API ------------------------------------------------------------------------------------------------------


@pytest.fixture
def api(scenario: Scenario) -> Client:
    text = create_api_key(actor=scenario.alice, name="k", scopes=list(KEY_SCOPES)).text
    return Client(headers={"Authorization": f"Bearer {text}"})


def post(api: Client, path: str, **body: Any) -> Any:
    return api.post(f"/api/v1{path}", json.dumps(body), content_type="application/json")


def test_the_api_takes_an_order_and_tells_what_was_found(
    api: Client, scenario: Scenario, world: World, tmp_path: Path
) -> None:
    uid = world.model_version.uid
    answer = post(api, "/evaluations", model_version=uid, prompts=["a fox", "a hen"], seeds=2)
    assert answer.status_code == 201, answer.content
    data = answer.json()
    assert (data["object"], data["status"], data["model_version"]) == ("evaluation", "queued", uid)
    assert (data["settings"]["prompts"], data["settings"]["count"]) == (["a fox", "a hen"], 2)
    assert data["progress"] == {"drawn": 0, "total": 12}
    assert data["base"] == {"style_distance": None, "content_score": None, "images": 0}
    assert data["advice"] is None
    job = TrainingJob.jobs.for_team(scenario.team).get(uid=data["id"])
    tell(job, tmp_path, (2.0, 1.0), (0.5, 1.0), (0.4, 0.25))
    early, final = world.model_version.files.order_by("step")
    data = api.get(f"/api/v1/evaluations/{job.uid}").json()
    assert data["files"] == [
        {
            "file": early.uid,
            "filename": "m-step00000005.safetensors",
            "step": 5,
            "epoch": 1,
            "final": False,
            "style_distance": 0.5,
            "content_score": 1.0,
            "images": 4,
        },
        {
            "file": final.uid,
            "filename": "m.safetensors",
            "step": 10,
            "epoch": 1,
            "final": True,
            "style_distance": 0.4,
            "content_score": 0.25,
            "images": 4,
        },
    ]
    assert (data["advice"]["file"], data["advice"]["verdict"]) == (early.uid, "best")
    assert [each["mix"] for each in data["pictures"]] == [0] * 4 + [1] * 4 + [2] * 4
    listed = api.get(f"/api/v1/evaluations?model_version={uid}&status=succeeded").json()["data"]
    assert [each["id"] for each in listed] == [job.uid, world.extra["evaluation"]]
    assert api.get(f"/api/v1/evaluations/{job.uid}/events").json()["data"][0]["type"] == "status"
    assert api.get(f"/api/v1/generations/{job.uid}").status_code == 404


def test_the_api_cancels_and_resumes(api: Client, scenario: Scenario, world: World) -> None:
    job = evaluation(scenario, world)
    TrainingJob.jobs.for_team(scenario.team).filter(pk=job.pk).update(state=JobState.PAUSED)
    assert post(api, f"/evaluations/{job.uid}/resume").json()["status"] == "queued"
    assert post(api, f"/evaluations/{job.uid}/cancel").json()["status"] == "canceled"
    assert post(api, f"/evaluations/{job.uid}/resume").status_code == 409


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 422, "validation_failed"),
        ({"model_version": "mdv_1"}, 422, "model_version_unknown"),
        ({"model_version": "mine", "seeds": 5}, 422, "validation_failed"),
        ({"model_version": "mine", "seeds": 0}, 422, "validation_failed"),
        ({"model_version": "mine", "prompts": []}, 422, "validation_failed"),
        ({"model_version": "mine", "prompts": ["a"] * 9}, 422, "validation_failed"),
        ({"model_version": "mine", "promts": ["a"]}, 400, "validation_failed"),
        ({"model_version": "theirs"}, 422, "model_version_unknown"),
    ],
)
def test_the_api_says_what_is_wrong_with_an_order(
    api: Client, scenario: Scenario, world: World, body: dict[str, Any], status: int, code: str
) -> None:
    before = orders(scenario)
    if body.get("model_version") == "mine":
        body["model_version"] = world.model_version.uid
    if body.get("model_version") == "theirs":
        body["model_version"] = make_world(scenario.charlie, "theirs").model_version.uid
    answer = post(api, "/evaluations", **body)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.json()
    assert orders(scenario) == before


def test_the_list_costs_the_same_for_two_and_for_six(api: Client, scenario: Scenario, world: World) -> None:
    counts = []
    for more in (1, 4):
        for _number in range(more):
            job = evaluation(scenario, world)
            Sample.objects.create(
                team=scenario.team, job=job, blob=world.blob, step=0, epoch=0, prompt_index=0, prompt="a", seed=1
            )  # fmt: skip
        api.get("/api/v1/evaluations")
        with CaptureQueriesContext(connection) as seen:
            api.get("/api/v1/evaluations")
        counts.append(len(seen))
    assert counts[0] == counts[1]


def test_a_test_key_s_evaluation_is_simulated(scenario: Scenario, world: World) -> None:
    from training.simulated import run_simulated

    key = create_api_key(actor=scenario.alice, name="t", scopes=list(KEY_SCOPES), is_test=True)
    api = Client(headers={"Authorization": f"Bearer {key.text}"})
    data = post(api, "/evaluations", model_version=world.model_version.uid, prompts=["a", "b"]).json()
    assert data["test"] is True
    run_simulated(data["id"])
    done = api.get(f"/api/v1/evaluations/{data['id']}").json()
    assert (done["status"], done["progress"]) == ("succeeded", {"drawn": 24, "total": 24})
    assert [(each["style_distance"], each["content_score"]) for each in done["files"]] == [
        (1.0, 1.0),
        (0.6667, 0.5),
    ]
    assert done["advice"]["file"] == world.model_version.files.get(step=5).uid
    assert api.get(done["pictures"][0]["picture"]).status_code == 200
