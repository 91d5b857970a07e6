"""Evaluations of a model version's files: ordering, what the worker fetches, and what is found."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import AuditEvent
from billing.models import BillingAccount, Plan
from core.errors import DomainError, PermissionDenied, QuotaExceeded
from projects.models import DatasetVersion, LoraFile, LoraVersion, Project
from tests.scenario import Scenario
from tests.training.conftest import client_of
from tests.training.measuring import add_file, evaluation, orders, page, tell
from tests.training.queueing import events, fresh, statuses
from tests.training.rows import make_blob
from tests.world import World, make_world
from training.findings import Finding, Findings
from training.models import FoundationModel, Sample, Worker
from training.orders import write_order
from training.queue.claim import claim_next
from training.runner import Runner
from training.services.evaluations import evaluate_version

pytestmark = pytest.mark.django_db


@pytest.fixture
def world(scenario: Scenario) -> World:
    made = make_world(scenario.alice, "mine")
    add_file(scenario, made.model_version, 5)
    return made


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


@pytest.mark.django_db(transaction=True)  # the runner's keeper looks at the row on a connection of its own
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
