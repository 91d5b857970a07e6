"""Captions written automatically: ordered in the browser and over the API, and put beside the pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.actor import Actor
from accounts.models import AuditEvent
from accounts.roles import KEY_SCOPES, Can
from accounts.services.api_keys import create_api_key
from billing.models import BillingAccount, Plan
from core.errors import Conflict, DomainError, PermissionDenied, QuotaExceeded
from projects.models import Dataset, Item, Project
from projects.services.items import delete_item, edit_item
from tests.scenario import Scenario
from tests.training.conftest import client_of
from tests.training.queueing import events, fresh, make_worker, statuses
from tests.training.rows import make_blob
from training.engine import events as told
from training.models import CaptionMode, TrainingJob, WantedCaption
from training.orders import write_order
from training.queue.claim import claim_next
from training.queue.lease import Lease
from training.services import telemetry
from training.services.captioning import caption_items
from training.services.finalize import complete_short
from training.services.lifecycle import CrashReport, LeaseLost, crash_job, hold
from training.states import JobState

pytestmark = pytest.mark.django_db


class Pictures:
    """A picture set with some captions, and what is done to it."""

    def __init__(self, actor: Actor, *captions: str, name: str = "Icons") -> None:
        self.actor = actor
        self.project = Project.objects.create(team=actor.team, name=f"P {name}", created_by=actor.user)
        self.dataset = Dataset.objects.create(
            team=actor.team, project=self.project, name=name, created_by=actor.user
        )
        self.items = [
            Item.objects.create(
                team=actor.team,
                dataset=self.dataset,
                blob=make_blob(actor, f"{name} {number}"),
                filename=f"{number}.png",
                caption=caption,
            )
            for number, caption in enumerate(captions)
        ]

    def order(self, mode: str = "empty", **values: Any) -> TrainingJob:
        given: dict[str, Any] = {"actor": self.actor, "dataset": self.dataset, "captioner": "colours"}
        return caption_items(**{**given, **values}, mode=CaptionMode(mode))

    def uids(self, *numbers: int) -> list[str]:
        return [self.items[number].uid for number in numbers]

    @property
    def captions(self) -> list[str]:
        rows = Item.objects.for_team(self.actor.team).filter(dataset=self.dataset).order_by("pk")
        return list(rows.values_list("caption", flat=True))


@pytest.fixture
def icons(scenario: Scenario) -> Pictures:
    return Pictures(scenario.alice, "", "a cat", "", "a dog")


def wanted(job: TrainingJob) -> list[str]:
    rows = WantedCaption.objects.for_team(job.team).filter(job=job).order_by("pk")
    return list(rows.values_list("item__uid", flat=True))


def claim() -> Lease:
    lease = claim_next(make_worker())
    assert lease is not None
    return lease


def tell(lease: Lease, folder: Path, *told_events: told.Event) -> str:
    from django.utils import timezone

    return telemetry.record(lease, folder, [(event, timezone.now()) for event in told_events])


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


# -- The API ------------------------------------------------------------------------------------------------------


def api_of(actor: Actor, *, is_test: bool = False) -> Client:
    key = create_api_key(actor=actor, name="k", scopes=list(KEY_SCOPES), is_test=is_test)
    return Client(headers={"Authorization": f"Bearer {key.text}"})


def post(api: Client, path: str, **body: Any) -> Any:
    return api.post(f"/api/v1{path}", json.dumps(body), content_type="application/json")


def test_the_api_takes_an_order_and_shows_it(scenario: Scenario, icons: Pictures, tmp_path: Path) -> None:
    api = api_of(scenario.alice)
    answer = post(api, f"/datasets/{icons.dataset.uid}/captions:auto", captioner="colours", mode="replace")
    assert answer.status_code == 201, answer.content
    data = answer.json()
    assert (data["object"], data["status"], data["dataset"]) == ("captioning", "queued", icons.dataset.uid)
    assert (data["captioner"], data["mode"], data["longest"]) == ("colours", "replace", 30)
    edit_item(actor=scenario.alice, uid=icons.items[0].uid, caption="mine")
    tell(claim(), tmp_path, *(told.Caption(uid, "red") for uid in icons.uids(0, 1)))
    shown = api.get(f"/api/v1/captionings/{data['id']}").json()
    assert shown["progress"] == {"done": 2, "total": 4, "written": 1, "kept": 1, "left": 0}
    listed = api.get(f"/api/v1/captionings?dataset={icons.dataset.uid}&status=starting").json()["data"]
    assert [each["id"] for each in listed] == [data["id"]]
    assert api.get("/api/v1/captionings?dataset=ds_other").json()["data"] == []
    assert api.get(f"/api/v1/captionings/{data['id']}/events").json()["data"][-1]["type"] == "caption"
    assert api.get(f"/api/v1/trainings/{data['id']}").status_code == 404
    assert post(api, f"/captionings/{data['id']}/cancel").json()["desired"] == "cancel"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 422, "validation_failed"),
        ({"captioner": "nobody"}, 422, "captioner_unknown"),
        ({"captioner": "colours", "mode": "all"}, 422, "validation_failed"),
        ({"captioner": "colours", "longest": 101}, 422, "validation_failed"),
        ({"captioner": "colours", "items": []}, 422, "nothing_to_caption"),
        ({"captioner": "colours", "beams": 3}, 400, "validation_failed"),
    ],
)
def test_the_api_says_what_is_wrong_with_an_order(
    scenario: Scenario, icons: Pictures, body: dict[str, Any], status: int, code: str
) -> None:
    answer = post(api_of(scenario.alice), f"/datasets/{icons.dataset.uid}/captions:auto", **body)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.json()


def test_the_list_costs_the_same_for_two_orders_and_for_eight(scenario: Scenario, icons: Pictures) -> None:
    api, client = api_of(scenario.alice), client_of(scenario.alice)
    page = f"/t/{scenario.team.slug}/datasets/{icons.dataset.uid}/"
    counts = []
    for more in (2, 6):
        for _number in range(more):
            icons.order("replace")
        for get, address in ((api.get, "/api/v1/captionings"), (client.get, page)):
            get(address)
            with CaptureQueriesContext(connection) as seen:
                get(address)
            counts.append(len(seen))
    assert counts[:2] == counts[2:]


def test_a_test_key_s_order_is_simulated_and_changes_no_caption(scenario: Scenario, icons: Pictures) -> None:
    from training.simulated import run_simulated

    api = api_of(scenario.alice, is_test=True)
    path = f"/datasets/{icons.dataset.uid}/captions:auto"
    data = post(api, path, captioner="colours", mode="replace").json()
    assert data["test"] is True
    run_simulated(data["id"])
    done = api.get(f"/api/v1/captionings/{data['id']}").json()
    assert (done["status"], done["progress"]["done"], done["progress"]["written"]) == ("succeeded", 4, 0)
    assert icons.captions == ["", "a cat", "", "a dog"]


# -- The pages ----------------------------------------------------------------------------------------------------


def address_of(icons: Pictures, part: str = "") -> str:
    return f"/t/{icons.actor.team.slug}/datasets/{icons.dataset.uid}/{part}"


def test_the_page_offers_captions_and_the_form_orders_them(scenario: Scenario, icons: Pictures) -> None:
    client = client_of(scenario.alice)
    page = client.get(address_of(icons)).content.decode()
    assert page.count("Caption automatically") == 2  # for all, and for the selected
    form = client.get(address_of(icons, "captions/")).content.decode()
    assert "All pictures of this set" in form
    assert 'name="everything" value="1"' in form
    answer = client.post(
        address_of(icons, "captions/"), {"everything": 1, "captioner": "colours", "mode": "empty"}
    )
    assert (answer.status_code, answer["Location"]) == (303, address_of(icons))
    job = TrainingJob.jobs.for_team(scenario.team).get()
    assert wanted(job) == icons.uids(0, 2)
    page = client.get(address_of(icons)).content.decode()
    assert "Captions by Colours and format" in page
    assert f'data-job="{job.uid}"' in page


def test_the_selected_pictures_go_through_the_form(scenario: Scenario, icons: Pictures) -> None:
    client = client_of(scenario.alice)
    chosen = icons.uids(1, 3)
    form = client.post(address_of(icons, "captions/"), {"items": chosen, "show": "all"}).content.decode()
    assert "2 pictures" in form
    assert f'name="uids" value="{",".join(chosen)}"' in form
    client.post(
        address_of(icons, "captions/"),
        {"uids": ",".join(chosen), "captioner": "colours", "mode": "replace", "longest": 8},
    )
    job = TrainingJob.jobs.for_team(scenario.team).get()
    assert (wanted(job), job.spec["engine"]["longest"]) == (chosen, 8)


def test_all_that_is_shown_is_what_the_narrowing_shows(scenario: Scenario, icons: Pictures) -> None:
    client = client_of(scenario.alice)
    data = {"everything": 1, "show": "all", "q": "dog", "captioner": "colours", "mode": "append"}
    answer = client.post(address_of(icons, "captions/"), data)
    assert answer["Location"] == address_of(icons, "?q=dog")
    assert wanted(TrainingJob.jobs.for_team(scenario.team).get()) == icons.uids(3)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"captioner": "nobody", "mode": "empty"}, "is not one of the available choices"),
        ({"captioner": "colours", "mode": "empty", "longest": "0"}, "greater than or equal to 1"),
        ({"captioner": "colours", "mode": "empty", "q": "dog"}, "Every one of these pictures has a caption."),
    ],
)
def test_a_wrong_form_is_told_beside_its_field(
    scenario: Scenario, icons: Pictures, data: dict[str, str], words: str
) -> None:
    answer = client_of(scenario.alice).post(address_of(icons, "captions/"), {"everything": 1, **data})
    assert answer.status_code == 422
    assert words in answer.content.decode()
    assert not TrainingJob.jobs.for_team(scenario.team).exists()


def test_nothing_selected_leads_back_with_a_word(scenario: Scenario, icons: Pictures) -> None:
    answer = client_of(scenario.alice).post(address_of(icons, "captions/"), {"show": "small"}, follow=True)
    assert "Select pictures first." in answer.content.decode()
    assert answer.redirect_chain == [(address_of(icons, "?show=small"), 303)]


def test_the_same_form_sent_twice_is_one_order(scenario: Scenario, icons: Pictures) -> None:
    data = {"everything": 1, "captioner": "colours", "mode": "replace", "form_token": "t"}
    for _time in range(2):
        assert client_of(scenario.alice).post(address_of(icons, "captions/"), data).status_code == 303
    assert TrainingJob.jobs.for_team(scenario.team).count() == 1


def test_the_card_moves_and_draws_the_grid_again_once_it_is_over(
    scenario: Scenario, icons: Pictures, tmp_path: Path
) -> None:
    job = icons.order("replace")
    lease = claim()
    client = client_of(scenario.bob)
    card = f"/t/{scenario.team.slug}/captionings/{job.uid}/?part=card&q=cat"
    tell(lease, tmp_path, told.Phase("caption", 0, 4), told.Caption(icons.items[0].uid, "red"))
    running = client.get(card).content.decode()
    assert 'data-module="job-bars"' in running
    assert "part=body" not in running
    assert "Cancel" not in running  # Bob only views
    edit_item(actor=scenario.alice, uid=icons.items[1].uid, caption="mine")
    tell(lease, tmp_path, told.Caption(icons.items[1].uid, "red"))
    complete_short(hold(lease))
    over = client.get(card).content.decode()
    assert f'hx-get="{address_of(icons)}?part=body&amp;q=cat"' in over
    assert "1 caption written" in over
    assert "1 kept as somebody wrote it meanwhile" in over
    assert "part=body" not in client.get(card.partition("?")[0]).content.decode()


def test_an_order_is_canceled_and_resumed_from_its_card(scenario: Scenario, icons: Pictures) -> None:
    from training.services.control import pause_job

    client, job = client_of(scenario.alice), icons.order()
    pause_job(actor=scenario.alice, job=job)
    assert "Resume" in client.get(address_of(icons)).content.decode()
    base = f"/t/{scenario.team.slug}/captionings/{job.uid}/"
    assert client.post(f"{base}resume/")["Location"] == address_of(icons)
    assert fresh(job).state == JobState.QUEUED
    client.post(f"{base}cancel/")
    assert fresh(job).state == JobState.CANCELED
    assert client.get(f"{base}events/?after=0").json()["items"][-1]["data"]["state"] == "canceled"


def test_a_viewer_sees_the_card_and_no_button(scenario: Scenario, icons: Pictures) -> None:
    icons.order()
    client = client_of(scenario.bob)
    page = client.get(address_of(icons)).content.decode()
    assert "Captions by Colours and format" in page
    assert "Caption automatically" not in page
    assert client.get(address_of(icons, "captions/")).status_code == 403
    assert client.post(address_of(icons, "captions/"), {"everything": 1}).status_code == 403


def test_an_unknown_model_fails_the_order_with_advice(scenario: Scenario, icons: Pictures) -> None:
    from training.services.lifecycle import fail_job

    icons.order()
    report = CrashReport("captioner_missing", "not found", category="user")
    fail_job(hold(claim()), report)
    page = client_of(scenario.alice).get(address_of(icons)).content.decode()
    assert "model is not installed on the machine that ran this." in page
