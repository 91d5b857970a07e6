"""Captions written automatically: what is ordered, what a worker is told, and what it stores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import AuditEvent
from accounts.roles import KEY_SCOPES, Can
from accounts.services.api_keys import create_api_key
from billing.models import BillingAccount, Plan
from core.errors import Conflict, DomainError, PermissionDenied, QuotaExceeded
from projects.services.items import delete_item, edit_item
from tests.scenario import Scenario
from tests.training.captioning import Pictures, api_of, claim, tell, wanted
from tests.training.queueing import events, fresh, statuses
from training.engine import events as told
from training.models import TrainingJob, WantedCaption
from training.orders import write_order
from training.services.finalize import complete_short
from training.services.lifecycle import CrashReport, LeaseLost, crash_job, hold

pytestmark = pytest.mark.django_db


@pytest.fixture
def icons(scenario: Scenario) -> Pictures:
    return Pictures(scenario.alice, "", "a cat", "", "a dog")


# -- What is ordered ----------------------------------------------------------------------------------------------


def test_only_empty_captions_are_asked_for_unless_said_otherwise(icons: Pictures) -> None:
    job = icons.order()
    assert (job.uid[:4], job.kind, job.is_short, job.foundation_model) == ("cpt_", "captioning", True, None)
    assert (job.project, job.name, job.total_steps, job.gpu_gb) == (icons.project, "Icons", 2, 0)
    assert job.spec == {
        "engine": {"captioner": "colours", "model": "", "longest": 30},
        "captioner": "colours",
        "dataset": icons.dataset.uid,
        "mode": "empty",
    }
    assert wanted(job) == icons.uids(0, 2)
    assert wanted(icons.order("replace")) == icons.uids(0, 1, 2, 3)
    assert wanted(icons.order("append", items=[*icons.uids(3, 1), "img_nothing"])) == icons.uids(1, 3)
    event = AuditEvent.objects.for_team(icons.actor.team).filter(verb="captioning.created").earliest("pk")
    assert event.data == {"dataset": icons.dataset.uid, "pictures": 2, "mode": "empty"}


def test_excluded_pictures_are_left_out(icons: Pictures) -> None:
    edit_item(actor=icons.actor, uid=icons.items[0].uid, excluded=True)
    assert wanted(icons.order("replace")) == icons.uids(1, 2, 3)


@pytest.mark.parametrize(
    ("values", "code", "words"),
    [
        ({"items": [1, 3]}, "nothing_to_caption", "Every one of these pictures has a caption."),
        ({"items": []}, "nothing_to_caption", "There are no pictures to caption here."),
        ({"captioner": "blip"}, "captioner_unknown", "Choose a captioner that is offered here."),
        ({"captioner": "../colours"}, "captioner_unknown", "Choose a captioner that is offered here."),
        ({"longest": 0}, "invalid_settings", "Longest caption"),
    ],
)
def test_an_order_that_cannot_be_is_refused_in_words(
    icons: Pictures, values: dict[str, Any], code: str, words: str
) -> None:
    if "items" in values:
        values = {"items": icons.uids(*values["items"])}
    with pytest.raises(DomainError) as caught:
        icons.order(**values)
    assert caught.value.code == code
    assert words in caught.value.message
    assert not TrainingJob.jobs.for_team(icons.actor.team).exists()


def test_who_may_not_caption_or_not_compute_orders_nothing(scenario: Scenario, icons: Pictures) -> None:
    with pytest.raises(PermissionDenied):
        icons.order(actor=scenario.bob)
    for missing in (Can.DATASET_EDIT, Can.TRAINING_EDIT):
        scopes = [scope for scope in KEY_SCOPES if scope is not missing]
        key = create_api_key(actor=scenario.alice, name=missing, scopes=scopes).text
        answer = Client(headers={"Authorization": f"Bearer {key}"}).post(
            f"/api/v1/datasets/{icons.dataset.uid}/captions:auto",
            json.dumps({"captioner": "colours"}),
            content_type="application/json",
        )
        assert (answer.status_code, answer.json()["permission"]) == (403, missing.value)
    assert not TrainingJob.jobs.for_team(scenario.team).exists()


def test_captions_have_the_limit_of_short_work(scenario: Scenario, icons: Pictures) -> None:
    BillingAccount.objects.create(team=scenario.team, plan=Plan.objects.get(key="free"))
    for _time in range(2):
        icons.order("replace")
    with pytest.raises(QuotaExceeded) as caught:
        icons.order("replace")
    assert caught.value.extra["quota"] == "queued_short_work"


def test_an_archived_project_gets_no_captions(icons: Pictures) -> None:
    from projects.services.projects import archive_project

    archive_project(actor=icons.actor, uid=icons.project.uid)
    with pytest.raises(Conflict) as caught:
        icons.order()
    assert caught.value.code == "project_archived"


# -- What a worker does -------------------------------------------------------------------------------------------


def test_the_order_of_an_engine_names_what_is_left_to_do(icons: Pictures, tmp_path: Path) -> None:
    job = icons.order("replace")
    lease = claim()
    tell(lease, tmp_path, told.Phase("caption", 0, 4), told.Caption(icons.items[1].uid, "grey"))
    edit_item(actor=icons.actor, uid=icons.items[2].uid, excluded=True)
    delete_item(actor=icons.actor, uid=icons.items[3].uid)
    seen: list[tuple[int, int]] = []
    path = write_order(icons.actor.team, fresh(job), tmp_path, lambda done, total: seen.append((done, total)))
    order = json.loads(path.read_text())
    assert (order["kind"], order["done"]) == ("captioning", 1)
    assert order["spec"] == {"captioner": "colours", "model": "", "longest": 30}
    (picture,) = order["pictures"]
    assert picture["id"] == icons.items[0].uid
    assert Path(picture["path"]).read_bytes()[:4] == b"\x89PNG"
    assert seen == [(1, 1)]


def test_each_caption_is_stored_with_its_event(icons: Pictures, tmp_path: Path) -> None:
    job = icons.order("append")
    lease = claim()
    first, second, third, fourth = icons.items
    tell(lease, tmp_path, told.Phase("caption", 0, 4))
    tell(
        lease,
        tmp_path,
        told.Caption(first.uid, " red,\n square "),
        told.Caption(second.uid, "red, square"),
        told.Caption(fourth.uid, "dog"),
    )
    assert icons.captions == ["red, square", "a cat, red, square", "", "a dog"]
    row = fresh(job)
    assert (row.state, row.step, row.total_steps) == ("running", 3, 4)
    written = [data for _seq, kind, data in events(job) if kind == "caption"]
    assert written == [
        {"item": first.uid, "outcome": "written", "caption": "red, square"},
        {"item": second.uid, "outcome": "written", "caption": "a cat, red, square"},
        {"item": fourth.uid, "outcome": "written", "caption": "a dog"},
    ]
    tell(lease, tmp_path, told.Caption(first.uid, "again"), told.Caption("img_unknown", "x"))
    assert (icons.captions[0], fresh(job).step) == ("red, square", 3)
    tell(lease, tmp_path, told.Caption(third.uid, "blue"))
    complete_short(hold(lease))
    assert (fresh(job).state, fresh(job).percent, icons.captions[2]) == ("succeeded", 100, "blue")
    assert statuses(job) == ["queued", "starting", "running", "finalizing", "succeeded"]


def test_what_a_person_does_meanwhile_is_never_undone(icons: Pictures, tmp_path: Path) -> None:
    job = icons.order("replace")
    lease = claim()
    edited, excluded, deleted, plain = icons.items
    edit_item(actor=icons.actor, uid=edited.uid, caption="my own words")
    edit_item(actor=icons.actor, uid=excluded.uid, excluded=True)
    delete_item(actor=icons.actor, uid=deleted.uid)
    tell(lease, tmp_path, *(told.Caption(item.uid, "red") for item in icons.items))
    assert icons.captions == ["my own words", "a cat", "red"]
    outcomes = [(data["item"], data["outcome"]) for _seq, kind, data in events(job) if kind == "caption"]
    assert outcomes == [(edited.uid, "kept"), (excluded.uid, "left"), (plain.uid, "written")]
    assert fresh(job).step == 3


def test_a_second_order_does_not_write_over_the_first(icons: Pictures, tmp_path: Path) -> None:
    icons.order("replace")
    late = icons.order("append")
    tell(claim(), tmp_path, *(told.Caption(item.uid, "red") for item in icons.items))
    tell(claim(), tmp_path, *(told.Caption(item.uid, "blue") for item in icons.items))
    assert icons.captions == ["red"] * 4
    kept = WantedCaption.objects.for_team(late.team).filter(job=late, outcome="kept")
    assert kept.count() == 4


@pytest.mark.parametrize(("mode", "said"), [("replace", " \u200b\n"), ("append", "x" * 4000)])
def test_an_empty_or_endless_caption_changes_nothing(
    icons: Pictures, tmp_path: Path, mode: str, said: str
) -> None:
    icons.order(mode, items=icons.uids(1))
    tell(claim(), tmp_path, told.Caption(icons.items[1].uid, said))
    assert icons.captions[1] == "a cat"


def test_a_stale_attempt_writes_nothing_and_the_next_one_goes_on(icons: Pictures, tmp_path: Path) -> None:
    job = icons.order("replace")
    stale = claim()
    tell(stale, tmp_path, told.Caption(icons.items[0].uid, "red"))
    crash_job(hold(stale), CrashReport("engine_killed", "gone"))
    lease = claim()
    with pytest.raises(LeaseLost):
        tell(stale, tmp_path, told.Caption(icons.items[1].uid, "stale"))
    order = json.loads(write_order(job.team, fresh(job), tmp_path, lambda done, total: None).read_text())
    assert ([each["id"] for each in order["pictures"]], order["done"]) == (icons.uids(1, 2, 3), 1)
    tell(lease, tmp_path, *(told.Caption(uid, "blue") for uid in icons.uids(1, 2, 3)))
    assert icons.captions == ["red", "blue", "blue", "blue"]
    assert fresh(job).step == 4


def test_many_captions_cost_as_many_queries_as_few(scenario: Scenario, tmp_path: Path) -> None:
    many = Pictures(scenario.alice, *["old"] * 30)
    many.order("replace")
    lease = claim()
    counts = []
    for part in (many.items[:2], many.items[2:]):
        with CaptureQueriesContext(connection) as seen:
            tell(lease, tmp_path, *(told.Caption(item.uid, "new") for item in part))
        counts.append(len(seen))
    assert counts[0] == counts[1]
    assert many.captions == ["new"] * 30


# -- Which captioners there are ------------------------------------------------------------------------------------


def test_a_folder_that_names_a_blip_model_is_offered(
    scenario: Scenario, settings: Any, tmp_path: Path
) -> None:
    settings.CAPTIONERS_DIR = tmp_path / "nowhere"
    api = api_of(scenario.alice)
    assert [each["id"] for each in api.get("/api/v1/captioners").json()["data"]] == ["colours"]
    settings.CAPTIONERS_DIR = tmp_path
    for name, config, weights in (
        ("blip-base", {"model_type": "blip"}, "model.safetensors"),
        ("colours", {"model_type": "blip"}, "model.safetensors"),
        ("pickled", {"model_type": "blip"}, "pytorch_model.bin"),
        ("another", {"model_type": "llava"}, "model.safetensors"),
        ("broken", ["blip"], "model.safetensors"),
        (".hidden", {"model_type": "blip"}, "model.safetensors"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(config))
        (tmp_path / name / weights).write_bytes(b"weights")
    assert api.get("/api/v1/captioners").json()["data"] == [
        {
            "id": "blip-base",
            "object": "captioner",
            "name": "blip-base",
            "description": "Describes what is seen in the picture.",
        },
        {
            "id": "colours",
            "object": "captioner",
            "name": "Colours and format",
            "description": "Tags that are read from the pixels: colours, light, contrast, format. It needs no model.",
        },
    ]
    pictures = Pictures(scenario.alice, "")
    job = pictures.order(captioner="blip-base", longest=12)
    assert job.spec["engine"] == {"captioner": "blip", "model": "blip-base", "longest": 12}
    order = json.loads(write_order(job.team, job, tmp_path, lambda done, total: None).read_text())
    assert order["spec"]["model"] == str(tmp_path / "blip-base")
