"""Which file of a model version is best: ordering, findings, the model's page, the API, and what strangers see."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import AuditEvent
from accounts.roles import KEY_SCOPES
from accounts.services.api_keys import create_api_key
from billing.models import BillingAccount, Plan
from core.errors import DomainError, PermissionDenied, QuotaExceeded
from projects.models import DatasetVersion, LoraFile, LoraModel, LoraVersion, Project
from tests.scenario import Scenario
from tests.training.conftest import client_of
from tests.training.queueing import events, fresh, statuses
from tests.training.rows import make_blob
from tests.world import World, make_world
from training.engine import events as told
from training.findings import Finding, Findings
from training.models import FoundationModel, Sample, TrainingJob, Worker
from training.orders import write_order
from training.queue.claim import claim_next
from training.runner import Runner
from training.services import lifecycle, telemetry
from training.services.evaluations import evaluate_version
from training.services.finalize import complete_short
from training.states import JobState

pytestmark = pytest.mark.django_db


@pytest.fixture
def world(scenario: Scenario) -> World:
    made = make_world(scenario.alice, "mine")
    add_file(scenario, made.model_version, 5)
    return made


def add_file(scenario: Scenario, version: LoraVersion, step: int, *, epoch: int = 1) -> LoraFile:
    file: LoraFile = LoraFile.objects.create(
        team=scenario.team,
        version=version,
        blob=make_blob(scenario.alice, content=f"weights {step}".encode()),
        filename=f"m-step{step:08d}.safetensors",
        step=step,
        epoch=epoch,
    )
    return file


def evaluation(scenario: Scenario, world: World, **values: Any) -> TrainingJob:
    return evaluate_version(actor=scenario.alice, version=world.model_version, **values)


def orders(scenario: Scenario) -> int:
    return TrainingJob.jobs.for_team(scenario.team).count()


def tell(job: TrainingJob, folder: Path, *figures: tuple[float | None, float | None]) -> TrainingJob:
    """Claim a job and have an engine tell figures of the base and of each file, then the end."""
    worker = Worker.objects.create(name="w", device="CPU", seen_at=timezone.now())
    lease = claim_next(worker)
    assert lease is not None
    assert lease.job_uid == job.uid
    (folder / "a.png").write_bytes(b"picture")
    found = Findings.from_dict(job.evaluation or {})
    now = timezone.now()
    telemetry.record(lease, folder, [(told.Phase("evaluate", 0, 10), now)])
    of_file = len(job.spec["prompts"]) * job.spec["count"]
    for number, (file, (style, content)) in enumerate(zip((found.base, *found.files), figures, strict=True)):
        drawn = [
            told.Sample(0, 0, number * of_file + n, "a cat", 42 + n, "a.png", 64, 64, number > 0)
            for n in range(of_file)
        ]
        telling = told.Finding(file.file, file.step, style, content, of_file)
        telemetry.record(lease, folder, [(each, now) for each in (*drawn, telling)])
    complete_short(lifecycle.hold(lease))
    return fresh(job)


# -- Ordering ---------------------------------------------------------------------------------------------------


def test_an_order_measures_every_file_as_the_training_drew(scenario: Scenario, world: World) -> None:
    training = world.job
    training.spec["sampling"].update(
        prompts=["a cat, {trigger}", "a dog"], seed=7, steps=150, guidance=3.0, negative="blur"
    )
    training.spec["training"]["resolution"] = 68
    training.save()
    LoraVersion.objects.for_team(scenario.team).update(trigger_words="inkstyle")
    job = evaluation(scenario, world)
    early, final = world.model_version.files.order_by("step")
    assert (job.kind, job.is_short, job.uid[:4], job.state) == ("evaluation", True, "evl_", "queued")
    assert (job.project, job.foundation_model, job.name) == (world.project, world.foundation, "Model v1")
    spec = job.spec
    assert (spec["prompts"], spec["count"]) == (["a cat, inkstyle", "a dog"], 4)
    assert (spec["seed"], spec["steps"], spec["guidance"], spec["negative"]) == (7, 100, 3.0, "blur")
    assert (spec["width"], spec["height"]) == (64, 64)
    assert [[use["file"] for use in mix] for mix in spec["mixes"]] == [[], [early.uid], [final.uid]]
    assert job.total_steps == 3 * 8
    assert Findings.from_dict(job.evaluation) == Findings(
        world.model_version.uid,
        Finding(),
        (
            Finding(early.uid, "m-step00000005.safetensors", 5, 1),
            Finding(final.uid, "m.safetensors", 10, 1, is_final=True),
        ),
    )
    assert AuditEvent.objects.for_team(scenario.team).order_by("-pk").first().verb == "evaluation.created"


def test_a_training_with_one_prompt_is_measured_on_one_of_the_base_model_s_too(
    scenario: Scenario, world: World
) -> None:
    FoundationModel.objects.filter(key="tiny").update(prompts=["a boat", "a crown"])
    world.job.spec["sampling"]["prompts"] = ["a cat"]
    world.job.save()
    assert evaluation(scenario, world).spec["prompts"] == ["a cat", "a boat"]
    world.job.spec["sampling"]["prompts"] = []
    world.job.save()
    assert evaluation(scenario, world).spec["prompts"] == ["a boat", "a crown"]


def test_prompts_and_seeds_can_be_chosen(scenario: Scenario, world: World) -> None:
    job = evaluation(scenario, world, prompts=["a fox ", "", "a hen"], seeds=3)
    assert (job.spec["prompts"], job.spec["count"]) == (["a fox", "a hen"], 3)


def test_a_version_without_its_training_is_measured_at_the_base_model_s_size(
    scenario: Scenario, world: World
) -> None:
    LoraVersion.objects.for_team(scenario.team).update(training_uid="trn_gone", trigger_words="ink")
    FoundationModel.objects.filter(key="tiny").update(prompts=[])
    spec = evaluation(scenario, world).spec
    assert (spec["prompts"], spec["width"], spec["steps"], spec["count"]) == (["ink"], 64, 20, 8)


def test_of_many_files_fifteen_are_measured_evenly_and_the_final_one_always(
    scenario: Scenario, world: World
) -> None:
    for step in range(11, 40):
        add_file(scenario, world.model_version, step)
    add_file(scenario, world.model_version, 10)  # the checkpoint of the final step is the final file
    LoraFile.objects.for_team(scenario.team).filter(is_final=True).update(step=39)
    LoraFile.objects.for_team(scenario.team).filter(is_final=True).update(step=40)
    found = Findings.from_dict(evaluation(scenario, world, prompts=["a"] * 8, seeds=4).evaluation)
    steps = [each.step for each in found.files]
    assert (len(steps), found.left_out, steps[-1], found.files[-1].is_final) == (15, 17, 40, True)
    assert steps == sorted(set(steps))
    assert max(b - a for a, b in pairwise(steps)) <= 3


def test_the_final_file_stands_for_the_checkpoint_of_its_step(scenario: Scenario, world: World) -> None:
    add_file(scenario, world.model_version, 10)
    found = Findings.from_dict(evaluation(scenario, world).evaluation)
    assert [(each.step, each.is_final) for each in found.files] == [(5, False), (10, True)]


@pytest.mark.parametrize(
    ("case", "code"),
    [
        ("no file", "no_files"),
        ("no base", "base_model_unknown"),
        ("archived", "project_archived"),
        ("long prompt", "invalid_settings"),
    ],
)
def test_what_cannot_be_measured_is_said_and_nothing_is_queued(
    scenario: Scenario, world: World, case: str, code: str
) -> None:
    before = orders(scenario)
    if case == "no file":
        LoraFile.objects.for_team(scenario.team).delete()
    if case == "no base":
        FoundationModel.objects.update(is_active=False)
    if case == "archived":
        Project.objects.for_team(scenario.team).update(archived_at=timezone.now())
    with pytest.raises(DomainError) as caught:
        evaluation(scenario, world, prompts=["a" * 1001] if case == "long prompt" else None)
    assert caught.value.code == code
    assert orders(scenario) == before


def test_a_viewer_a_stranger_and_who_may_not_see_the_project_measure_nothing(
    scenario: Scenario, world: World
) -> None:
    before = orders(scenario)
    with pytest.raises(PermissionDenied):
        evaluate_version(actor=scenario.bob, version=world.model_version)
    with pytest.raises(DomainError) as caught:
        evaluate_version(actor=scenario.charlie, version=world.model_version)
    assert caught.value.code == "model_version_unknown"
    address = f"/t/{scenario.team.slug}/model_versions/{world.model_version.uid}/evaluate/"
    assert client_of(scenario.bob).post(address).status_code == 403
    assert client_of(scenario.charlie).post(address).status_code == 404
    assert orders(scenario) == before
    Project.objects.for_team(scenario.team).update(is_restricted=True)
    uid = world.extra["evaluation"]
    for path in ("", "events/", "?part=card"):
        assert (
            client_of(scenario.bob).get(f"/t/{scenario.team.slug}/evaluations/{uid}/{path}").status_code
            == 404
        )


def test_too_much_waiting_short_work_is_refused(scenario: Scenario, world: World) -> None:
    BillingAccount.objects.create(team=scenario.team, plan=Plan.objects.get(key="free"))
    evaluation(scenario, world)
    evaluation(scenario, world)
    with pytest.raises(QuotaExceeded):
        evaluation(scenario, world)


# -- The worker ---------------------------------------------------------------------------------------------------


def test_the_worker_fetches_files_set_and_what_was_drawn_before(
    scenario: Scenario, world: World, tmp_path: Path, settings: Any
) -> None:
    settings.ENGINE_CACHE_DIR = tmp_path / "cache"
    job = evaluation(scenario, world)
    job.evaluation = Findings.from_dict(job.evaluation).with_figures("", 2.0, 1.0, 8).to_dict()
    job.save()
    drawn = make_blob(scenario.alice, "drawn")
    for index in (0, 3):
        Sample.objects.create(
            team=scenario.team, job=job, blob=drawn, step=0, epoch=0, prompt_index=index, prompt="a", seed=1
        )
    folder = tmp_path / "run"
    folder.mkdir()
    order = json.loads(write_order(scenario.team, job, folder, lambda done, total: None).read_text())
    early, final = world.model_version.files.order_by("step")
    assert order["kind"] == "evaluation"
    assert order["files"] == [
        {"id": "", "step": 0},
        {"id": early.uid, "step": 5},
        {"id": final.uid, "step": 10},
    ]
    assert (sorted(order["drawn"]), order["found"]) == ([0, 3], [""])
    assert [Path(each).read_bytes() for each in order["pictures"]] == [
        (tmp_path / "cache" / scenario.team.uid / "pictures" / world.blob.sha256[:2] / world.blob.sha256)
        .read_bytes()
    ]  # fmt: skip
    assert sorted(path.name for path in (folder / "pictures").iterdir()) == ["0000.png", "0003.png"]
    assert Path(order["spec"]["mixes"][1][0]["file"]).read_bytes() == b"weights 5"


def test_the_set_is_looked_at_in_at_most_two_hundred_pictures_evenly_spread(
    scenario: Scenario, world: World, tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from projects.models import DatasetVersionItem
    from training import orders as written

    DatasetVersionItem.objects.bulk_create(
        DatasetVersionItem(
            team=scenario.team, version=world.version, blob=world.blob, position=n, filename=f"{n}.png"
        )
        for n in range(1, 450)
    )
    monkeypatch.setattr(written, "cached_picture", lambda team, blob: Path("p"))
    counted: list[tuple[int, int]] = []
    found = written._pictures_of(
        scenario.team, world.model_version.uid, lambda done, total: counted.append((done, total))
    )
    assert (len(found), counted[-1]) == (150, (150, 150))


def test_a_version_whose_pictures_are_gone_is_measured_without_them(
    scenario: Scenario, world: World, tmp_path: Path
) -> None:
    job = evaluation(scenario, world)
    LoraVersion.objects.for_team(scenario.team).update(dataset_version=None)
    order = json.loads(write_order(scenario.team, job, tmp_path, lambda done, total: None).read_text())
    assert order["pictures"] == []
    job = tell(job, tmp_path, (None, 1.0), (None, 1.0), (None, 0.5))
    shown = page(scenario, world)
    assert "How close it is to your pictures could not be measured: they were deleted" in shown
    assert "Step 5 is recommended" in shown
    assert DatasetVersion.objects.for_team(scenario.team).exists()


def test_a_file_that_was_deleted_meanwhile_fails_the_order_with_advice(
    scenario: Scenario, world: World
) -> None:
    job = evaluation(scenario, world)
    LoraFile.objects.for_team(scenario.team).filter(step=5).delete()
    worker = Worker.objects.create(name="w", device="CPU", seen_at=timezone.now())
    lease = claim_next(worker)
    assert lease is not None
    Runner(lease, None, Event()).run()  # type: ignore[arg-type]
    assert (fresh(job).state, fresh(job).error_code) == ("failed", "part_missing")
    assert "A model version that this order names was deleted meanwhile." in page(scenario, world)


def test_findings_are_stored_and_told(scenario: Scenario, world: World, tmp_path: Path) -> None:
    job = tell(evaluation(scenario, world), tmp_path, (2.0, 1.0), (1.0, 1.0), (0.5, None))
    assert statuses(job) == ["queued", "starting", "running", "finalizing", "succeeded"]
    found = Findings.from_dict(job.evaluation)
    assert [(each.style_distance, each.content_score, each.images) for each in (found.base, *found.files)] == [
        (2.0, 1.0, 9),
        (1.0, 1.0, 9),
        (0.5, None, 9),
    ]  # fmt: skip
    assert [data for _seq, kind, data in events(job) if kind == "finding"][1] == {
        "file": found.files[0].file,
        "step": 5,
        "style_distance": 1.0,
        "content_score": 1.0,
        "images": 9,
    }
    assert (job.step, job.percent) == (27, 100)


# -- The page ---------------------------------------------------------------------------------------------------


def page(scenario: Scenario, world: World, actor: Any = None) -> str:
    answer = client_of(actor or scenario.alice).get(f"/t/{scenario.team.slug}/models/{world.model.uid}/")
    assert answer.status_code == 200
    return answer.content.decode()


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
