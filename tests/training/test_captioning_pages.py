"""Captions written automatically: in the browser and over the API."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from projects.models import Item
from projects.services.items import edit_item
from tests.scenario import Scenario
from tests.training.captioning import Pictures, api_of, claim, tell, wanted
from tests.training.conftest import client_of
from tests.training.queueing import fresh
from training.engine import events as told
from training.models import TrainingJob
from training.services.finalize import complete_short
from training.services.lifecycle import CrashReport, hold
from training.states import JobState

pytestmark = pytest.mark.django_db


@pytest.fixture
def icons(scenario: Scenario) -> Pictures:
    return Pictures(scenario.alice, "", "a cat", "", "a dog")


# -- The API ------------------------------------------------------------------------------------------------------


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


def test_the_same_form_sent_again_when_all_is_captioned_is_still_that_order(
    scenario: Scenario, icons: Pictures
) -> None:
    data = {"everything": 1, "captioner": "colours", "mode": "empty", "form_token": "t"}
    client, page = client_of(scenario.alice), address_of(icons, "captions/")
    assert client.post(page, data).status_code == 303
    Item.objects.for_team(scenario.team).filter(caption="").update(caption="red")
    assert client.post(page, data).status_code == 303
    assert (
        client.post(page, {**data, "form_token": "another"}).status_code == 422
    )  # nothing is left to caption
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
