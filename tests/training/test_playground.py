"""The playground: ordering pictures in the browser and over the API, and what strangers see of it."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts.roles import KEY_SCOPES
from accounts.services.api_keys import create_api_key
from projects.models import LoraFile, LoraModel, LoraVersion, Project
from tests.scenario import Scenario
from tests.training.conftest import client_of
from tests.training.queueing import fresh
from tests.training.rows import make_blob
from tests.world import World, make_world
from training.engine.generation import GenerationSpec
from training.models import Attempt, FoundationModel, Sample, TrainingJob
from training.queue.claim import claim_next
from training.services.generations import estimate_pictures
from training.states import JobState

pytestmark = pytest.mark.django_db


@pytest.fixture
def world(scenario: Scenario) -> World:
    made = make_world(scenario.alice, "mine")
    LoraVersion.objects.for_team(scenario.team).update(base_model="tiny")
    return made


@pytest.fixture
def address(scenario: Scenario) -> str:
    return f"/t/{scenario.team.slug}/playground/"


def newest(scenario: Scenario) -> TrainingJob:
    found: TrainingJob = TrainingJob.jobs.for_team(scenario.team).order_by("-id").first()
    return found


def send(scenario: Scenario, address: str, **data: Any) -> Any:
    return client_of(scenario.alice).post(
        address.replace("playground", "generations"), {"prompts": "a cat\n\n a dog ", **data}
    )


def test_the_page_offers_the_team_s_models_and_draws_what_it_is_told(
    scenario: Scenario, world: World, address: str
) -> None:
    shown = client_of(scenario.alice).get(f"{address}?version={world.model_version.uid}").content.decode()
    assert f'value="{world.model_version.uid}" selected' in shown
    answer = send(
        scenario,
        address,
        lora_1=world.model_version.uid,
        strength_1="0.8",
        compare="base",
        count=2,
        seed=7,
        width=64,
        height=96,
    )
    assert (answer.status_code, answer["Location"]) == (303, address)
    job = newest(scenario)
    assert (job.kind, job.is_short, job.project, job.total_steps) == ("generation", True, world.project, 8)
    spec = job.spec
    assert (spec["prompts"], spec["seed"], spec["count"]) == (["a cat", "a dog"], 7, 2)
    assert (spec["width"], spec["height"]) == (64, 96)
    use = {"file": world.file.uid, "version": world.model_version.uid, "strength": 0.8}
    assert spec["mixes"] == [[], [use]]
    listed = client_of(scenario.alice).get(address).content.decode()
    assert "a cat · a dog" in listed
    assert "Model v1 × 0.8" in listed


def test_a_sweep_draws_three_strengths(scenario: Scenario, world: World, address: str) -> None:
    send(scenario, address, lora_1=world.model_version.uid, strength_1="1", compare="sweep")
    assert [[use["strength"] for use in mix] for mix in newest(scenario).spec["mixes"]] == [
        [0.4],
        [0.7],
        [1.0],
    ]


def test_the_same_form_sent_twice_is_one_order(scenario: Scenario, world: World, address: str) -> None:
    before = TrainingJob.jobs.for_team(scenario.team).count()
    for _time in range(2):
        assert send(scenario, address, form_token="t", lora_1=world.model_version.uid).status_code == 303
    assert TrainingJob.jobs.for_team(scenario.team).count() == before + 1


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"prompts": "  "}, "This field is required."),
        ({"prompts": "\n".join(["a cat"] * 17)}, "Give at most 16 prompts at once."),
        ({"lora_1": "mdv_01jd3v7k2m0000000000000000"}, "is not one of the available choices"),
        ({"strength_1": "7"}, "less than or equal to 4"),
        ({"width": "100", "base_model": "tiny", "project": "mine"}, "100 is not a multiple of 8"),
        ({"base_model": "tiny"}, "Say which project the pictures are for."),
        ({}, "Choose a base model that is offered here."),
    ],
)
def test_a_wrong_order_is_told_beside_its_field(
    scenario: Scenario, world: World, address: str, data: dict[str, str], words: str
) -> None:
    before = TrainingJob.jobs.for_team(scenario.team).count()
    if data.get("project"):
        data = {**data, "project": world.project.uid}
    answer = send(scenario, address, **data)
    assert answer.status_code == 422
    assert words in answer.content.decode()
    assert TrainingJob.jobs.for_team(scenario.team).count() == before


def test_an_order_can_be_drawn_again(scenario: Scenario, world: World, address: str) -> None:
    send(scenario, address, lora_1=world.model_version.uid, strength_1="0.5", seed=11, negative="blur")
    shown = client_of(scenario.alice).get(f"{address}?again={newest(scenario).uid}").content.decode()
    assert 'name="seed" value="11"' in shown
    assert 'value="0.5"' in shown
    assert 'value="blur"' in shown


def test_a_viewer_sees_the_pictures_and_draws_none(scenario: Scenario, world: World, address: str) -> None:
    client = client_of(scenario.bob)
    assert "Draw</button>" not in client.get(address).content.decode()
    create = address.replace("playground", "generations")
    assert client.post(create, {"prompts": "a cat"}).status_code == 403
    assert client.get(f"/t/{scenario.team.slug}/generations/{world.order.uid}/").status_code == 200


def test_the_card_shows_what_is_drawn_and_the_rest_as_blanks(scenario: Scenario, world: World) -> None:
    order = world.order
    TrainingJob.jobs.for_team(scenario.team).filter(pk=order.pk).update(
        state=JobState.QUEUED, finished_at=None, total_steps=3, spec={**order.spec, "count": 3}
    )
    sample = Sample.objects.create(
        team=scenario.team,
        job=order,
        blob=make_blob(scenario.alice),
        step=0,
        epoch=0,
        prompt_index=0,
        prompt="cat",
        seed=42,
    )
    card = client_of(scenario.alice).get(f"/t/{scenario.team.slug}/generations/{order.uid}/?part=card")
    text = card.content.decode()
    assert f"/samples/{sample.uid}/" in text
    assert text.count("tile-picture skeleton") == 2


def test_the_list_costs_the_same_for_two_orders_and_for_eight(
    scenario: Scenario, world: World, address: str
) -> None:
    client = client_of(scenario.alice)
    counts = []
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    for more in (1, 6):
        for _number in range(more):
            send(scenario, address, lora_1=world.model_version.uid)
        client.get(address)
        with CaptureQueriesContext(
            connection,
        ) as seen:
            client.get(address)
        counts.append(len(seen))
    assert counts[0] == counts[1]


def test_a_form_whose_order_was_deleted_is_refused_and_not_sent_again(
    scenario: Scenario, world: World, address: str
) -> None:
    send(scenario, address, form_token="t", lora_1=world.model_version.uid)
    newest(scenario).delete()
    answer = send(scenario, address, form_token="t", lora_1=world.model_version.uid)
    assert answer.status_code == 422
    assert "This form was sent already." in answer.content.decode()


def test_a_resting_order_can_be_canceled_on_its_page(scenario: Scenario, world: World) -> None:
    rows = TrainingJob.jobs.for_team(scenario.team).filter(pk=world.order.pk)
    rows.update(state=JobState.PAUSED, finished_at=None, rest_reason="insufficient_credits")
    page = client_of(scenario.alice).get(f"/t/{scenario.team.slug}/playground/").content.decode()
    assert f"/generations/{world.order.uid}/cancel/" in page
    assert "GPU time is used up" in page
    rows.update(state=JobState.CANCELED, finished_at=world.order.finished_at)
    page = client_of(scenario.alice).get(f"/t/{scenario.team.slug}/playground/").content.decode()
    assert "GPU time is used up" not in page


def test_what_an_order_waited_between_its_attempts_is_no_part_of_the_estimate(
    scenario: Scenario, world: World
) -> None:
    base, now = FoundationModel.objects.get(key="tiny"), timezone.now()
    rows = TrainingJob.jobs.for_team(scenario.team).filter(pk=world.order.pk)
    rows.update(foundation_model=base, started_at=now - timedelta(hours=9), finished_at=now)
    for fence in (1, 2):
        began = now - timedelta(hours=9 if fence == 1 else 0, seconds=10)
        Attempt.objects.create(
            team=scenario.team,
            job=world.order,
            fence=fence,
            started_at=began,
            ended_at=began + timedelta(seconds=10),
        )
    spec = GenerationSpec.from_dict(world.order.spec)
    assert estimate_pictures(spec, base, team=scenario.team) < 60


def test_finished_pictures_can_be_deleted_and_running_ones_not(
    scenario: Scenario, world: World, address: str
) -> None:
    send(scenario, address, lora_1=world.model_version.uid)
    waiting, done = newest(scenario), world.order
    Sample.objects.create(
        team=scenario.team, job=done, blob=make_blob(scenario.alice), step=0, epoch=0, prompt_index=0,
        prompt="cat", seed=42,
    )  # fmt: skip
    client = client_of(scenario.alice)
    team = f"/t/{scenario.team.slug}"
    assert client_of(scenario.bob).post(f"{team}/generations/{done.uid}/delete/").status_code == 403
    assert client.post(f"{team}/generations/{waiting.uid}/delete/").status_code == 409
    assert client.post(f"{team}/generations/{done.uid}/delete/").status_code == 303
    assert list(TrainingJob.jobs.for_team(scenario.team).filter(kind="generation")) == [waiting]
    assert not Sample.objects.for_team(scenario.team).filter(job=done.pk).exists()


# -- The API ------------------------------------------------------------------------------------------------------


@pytest.fixture
def api(scenario: Scenario) -> Client:
    text = create_api_key(actor=scenario.alice, name="k", scopes=list(KEY_SCOPES)).text
    return Client(headers={"Authorization": f"Bearer {text}"})


def post(api: Client, path: str, **body: Any) -> Any:
    return api.post(f"/api/v1{path}", json.dumps(body), content_type="application/json")


def test_the_api_takes_an_order_and_shows_it(api: Client, world: World) -> None:
    answer = post(
        api,
        "/generations",
        prompts=["a cat"],
        mixes=[[], [{"model_version": world.model_version.uid, "strength": 0.6}]],
        count=2,
        seed=5,
    )
    assert answer.status_code == 201, answer.content
    data = answer.json()
    assert (data["object"], data["status"], data["base_model"]) == ("generation", "queued", "tiny")
    assert data["progress"] == {"drawn": 0, "total": 4}
    assert data["mixes"][1][0] == {
        "model_version": world.model_version.uid,
        "file": world.file.uid,
        "strength": 0.6,
    }
    assert api.get(f"/api/v1/generations/{data['id']}").json()["settings"]["seed"] == 5
    listed = api.get("/api/v1/generations?status=queued").json()["data"]
    assert [each["id"] for each in listed] == [data["id"]]
    assert api.get(f"/api/v1/generations/{data['id']}/events").json()["data"][0]["type"] == "status"
    assert api.get(f"/api/v1/trainings/{data['id']}").status_code == 404
    assert post(api, f"/generations/{data['id']}/pause").json()["status"] == "paused"
    assert post(api, f"/generations/{data['id']}/resume").json()["status"] == "queued"
    assert post(api, f"/generations/{data['id']}/cancel").json()["status"] == "canceled"
    assert post(api, f"/generations/{data['id']}/resume").status_code == 409
    assert api.delete(f"/api/v1/generations/{data['id']}").status_code == 204
    assert api.get(f"/api/v1/generations/{data['id']}").status_code == 404


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"prompts": []}, 422, "validation_failed"),
        ({"prompts": ["a"], "mixes": [[{"model_version": "mdv_1"}]]}, 422, "model_version_unknown"),
        ({"prompts": ["a"]}, 422, "base_model_unknown"),
        ({"prompts": ["a"], "base_model": "nothing"}, 422, "base_model_unknown"),
        ({"prompts": ["a"], "base_model": "tiny", "project": "prj_1"}, 422, "project_unknown"),
        ({"prompts": ["a"], "base_model": "tiny"}, 422, "project_missing"),
        ({"prompts": ["a"], "sed": 1}, 400, "validation_failed"),
    ],
)
def test_the_api_says_what_is_wrong_with_an_order(
    api: Client, world: World, body: dict[str, Any], status: int, code: str
) -> None:
    answer = post(api, "/generations", **body)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.json()


def test_loras_of_different_base_models_are_not_mixed(api: Client, world: World, scenario: Scenario) -> None:
    model = LoraModel.objects.create(team=scenario.team, project=world.project, name="Other")
    other = LoraVersion.objects.create(
        team=scenario.team,
        model=model,
        number=1,
        training_uid="trn_other",
        base_model="sdxl",
        base_sha256="4" * 64,
        recipe_sha256="5" * 64,
        seed=1,
        steps=1,
        rank=4,
        engine_version="1",
        verified_keys=3,
    )
    mix = [{"model_version": world.model_version.uid}, {"model_version": other.uid}]
    answer = post(api, "/generations", prompts=["a"], mixes=[mix])
    assert answer.json()["code"] == "several_base_models"
    FoundationModel.objects.create(
        key="sdxl", name="SDXL", family="sd", path="x", sha256="4" * 64, licence="x", resolution=1024
    )
    answer = post(
        api,
        "/generations",
        prompts=["a"],
        mixes=[[{"model_version": world.model_version.uid}]],
        base_model="sdxl",
    )
    assert answer.json()["code"] == "lora_of_another_base"


def test_a_lora_of_a_restricted_project_draws_only_into_it(
    api: Client, world: World, scenario: Scenario
) -> None:
    elsewhere = Project.objects.create(team=scenario.team, name="Open", created_by=scenario.alice.user)
    Project.objects.for_team(scenario.team).filter(pk=world.project.pk).update(is_restricted=True)
    mixes = [[{"model_version": world.model_version.uid}]]
    answer = post(api, "/generations", prompts=["a"], mixes=mixes, project=elsewhere.uid)
    assert answer.json()["code"] == "restricted_project"
    assert post(api, "/generations", prompts=["a"], mixes=mixes).json()["project"] == world.project.uid
    assert (
        world.order.uid
        not in client_of(scenario.bob).get(f"/t/{scenario.team.slug}/playground/").content.decode()
    )
    assert (
        client_of(scenario.bob).get(f"/t/{scenario.team.slug}/generations/{world.order.uid}/").status_code
        == 404
    )


def test_another_team_s_model_is_unknown(api: Client, world: World, scenario: Scenario) -> None:
    theirs = make_world(scenario.charlie, "theirs").model_version
    answer = post(api, "/generations", prompts=["a"], mixes=[[{"model_version": theirs.uid}]])
    assert answer.json()["code"] == "model_version_unknown"


def test_a_test_key_s_order_is_simulated(scenario: Scenario, world: World, settings: Any) -> None:
    from training.simulated import run_simulated

    key = create_api_key(actor=scenario.alice, name="t", scopes=list(KEY_SCOPES), is_test=True)
    api = Client(headers={"Authorization": f"Bearer {key.text}"})
    mixes = [[], [{"model_version": world.model_version.uid}]]
    data = post(api, "/generations", prompts=["a"], mixes=mixes, count=2).json()
    assert data["test"] is True
    run_simulated(data["id"])
    done = api.get(f"/api/v1/generations/{data['id']}").json()
    assert (done["status"], done["progress"]) == ("succeeded", {"drawn": 4, "total": 4})
    assert [each["mix"] for each in done["pictures"]] == [0, 0, 1, 1]
    assert api.get(done["pictures"][0]["picture"]).status_code == 200


@pytest.mark.django_db(transaction=True)  # the runner's keeper looks at the row on a connection of its own
def test_a_file_that_was_deleted_fails_the_order_with_advice(scenario: Scenario, world: World) -> None:
    from threading import Event

    from training.models import Worker
    from training.runner import Runner

    send(scenario, f"/t/{scenario.team.slug}/playground/", lora_1=world.model_version.uid)
    LoraFile.objects.for_team(scenario.team).delete()
    worker = Worker.objects.create(name="w", device="CPU", seen_at="2026-01-01T00:00Z")
    lease = claim_next(worker)
    assert lease is not None
    Runner(lease, None, Event()).run()  # type: ignore[arg-type]
    job = fresh(newest(scenario))
    assert (job.state, job.error_code, job.error_category) == ("failed", "part_missing", "user")
    shown = client_of(scenario.alice).get(f"/t/{scenario.team.slug}/playground/").content.decode()
    assert "A model version that this order names was deleted meanwhile." in shown
