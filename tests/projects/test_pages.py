"""The pages of projects, picture sets and models, as a browser meets them."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import AuditEvent
from core import storage
from projects.models import Blob, Dataset, DatasetVersion, Item, Project, Upload
from projects.services.datasets import create_dataset
from projects.services.projects import create_project
from projects.services.versions import freeze_dataset
from tests.projects.conftest import Workshop
from tests.projects.test_api import make_version

pytestmark = pytest.mark.django_db


def test_project_is_made_and_opened(page: Client, workshop: Workshop) -> None:
    answer = page.post("/t/atelier/projects/new/", {"name": "Lamps", "description": "warm ones"})
    project = Project.objects.for_team(workshop.scenario.team).get(name="Lamps")
    assert (answer.status_code, answer.headers["Location"]) == (303, f"/t/atelier/projects/{project.uid}/")
    shown = page.get(answer.headers["Location"]).content.decode()
    assert "warm ones" in shown
    assert "Begin with pictures" in shown


def test_name_that_is_taken_is_said_beside_the_field(page: Client, workshop: Workshop) -> None:
    answer = page.post("/t/atelier/projects/new/", {"name": "Cups"})
    assert answer.status_code == 422
    assert "There is one of this name already" in answer.content.decode()
    assert Project.objects.for_team(workshop.scenario.team).count() == 1


def test_archived_project_leaves_the_list(page: Client, workshop: Workshop) -> None:
    address = f"/t/atelier/projects/{workshop.dataset.project.uid}/"
    assert page.post(f"{address}archive/", {"archived": "1"}).status_code == 303
    assert address not in page.get("/t/atelier/projects/").content.decode()
    assert address in page.get("/t/atelier/projects/?archived=1").content.decode()
    page.post(f"{address}archive/", {"archived": "0"})
    assert address in page.get("/t/atelier/projects/").content.decode()


def test_dataset_is_made_renamed_and_deleted(page: Client, workshop: Workshop) -> None:
    address = f"/t/atelier/projects/{workshop.dataset.project.uid}/datasets/new/"
    answer = page.post(address, {"name": "Second"})
    dataset = Dataset.objects.for_team(workshop.scenario.team).get(name="Second")
    at = f"/t/atelier/datasets/{dataset.uid}/"
    assert answer.headers["Location"] == at
    assert page.post(f"{at}change/", {"name": "First"}).status_code == 422
    assert page.post(f"{at}change/", {"name": "Third"}).status_code == 303
    assert "Third" in page.get(at).content.decode()
    assert page.post(f"{at}delete/").status_code == 303
    assert page.get(at).status_code == 404


def test_grid_pages_by_key_and_narrows(page: Client, workshop: Workshop) -> None:
    items = workshop.add(61)
    Item.objects.for_team(workshop.scenario.team).filter(pk=items[7].pk).update(caption="", excluded=False)
    at = f"/t/atelier/datasets/{workshop.dataset.uid}/"
    first = page.get(at)
    assert first.content.decode().count('class="tile"') == 60
    more = page.get(at, {"after": items[59].uid}, headers={"HX-Request": "true"}).content.decode()
    assert more.count('class="tile"') == 1
    assert items[60].uid in more
    assert "<html" not in more
    without = page.get(at, {"show": "uncaptioned"}).content.decode()
    assert without.count('class="tile"') == 1
    assert items[7].uid in without
    assert page.get(at, {"q": "no such words"}).content.decode().count('class="tile"') == 0


def test_dataset_page_costs_the_same_for_few_and_many(
    page: Client, workshop: Workshop, django_assert_num_queries: Any
) -> None:
    at = f"/t/atelier/datasets/{workshop.dataset.uid}/"
    workshop.add(2)
    page.get(at)
    with CaptureQueriesContext(connection) as few:
        page.get(at)
    workshop.add(58, start=2)
    with django_assert_num_queries(len(few)):
        assert page.get(at).content.decode().count('class="tile"') == 60


@pytest.mark.parametrize("where", ["projects", "models"])
def test_lists_cost_the_same_for_few_and_many(
    page: Client, workshop: Workshop, django_assert_num_queries: Any, where: str
) -> None:
    def fill(numbers: range) -> None:
        for number in numbers:
            if where == "models":
                make_version(workshop, f"trn_{number}", f"Model {number}")
            else:
                project = create_project(actor=workshop.alice, name=f"Project {number}")
                create_dataset(actor=workshop.alice, project_uid=project.uid, name="Set")

    fill(range(2))
    page.get(f"/t/atelier/{where}/")
    with CaptureQueriesContext(connection) as few:
        page.get(f"/t/atelier/{where}/")
    fill(range(2, 22))
    with django_assert_num_queries(len(few)):
        page.get(f"/t/atelier/{where}/")


def test_project_page_costs_the_same_for_few_and_many(
    page: Client, workshop: Workshop, django_assert_num_queries: Any
) -> None:
    at = f"/t/atelier/projects/{workshop.dataset.project.uid}/"

    def fill(numbers: range) -> None:
        for number in numbers:
            create_dataset(
                actor=workshop.alice, project_uid=workshop.dataset.project.uid, name=f"Set {number}"
            )
            make_version(workshop, f"trn_{number}", f"Model {number}")

    fill(range(2))
    page.get(at)
    with CaptureQueriesContext(connection) as few:
        page.get(at)
    fill(range(2, 12))
    with django_assert_num_queries(len(few)):
        page.get(at)


def test_model_page_costs_the_same_for_few_and_many_versions(
    page: Client, workshop: Workshop, django_assert_num_queries: Any
) -> None:
    version = make_version(workshop, "trn_0")
    at = f"/t/atelier/models/{version.model.uid}/"
    page.get(at)
    with CaptureQueriesContext(connection) as few:
        page.get(at)
    for number in range(1, 9):
        make_version(workshop, f"trn_{number}")
    with django_assert_num_queries(len(few)):
        shown = page.get(at).content.decode()
    assert "Version 9" in shown
    assert "LoRA off" in shown


def test_freezing_leads_to_a_new_training(page: Client, workshop: Workshop) -> None:
    workshop.add(2)
    at = f"/t/atelier/datasets/{workshop.dataset.uid}/freeze/"
    answer = page.post(at)
    version = DatasetVersion.objects.for_team(workshop.scenario.team).get()
    assert answer.headers["Location"] == f"/t/atelier/trainings/new/?version={version.uid}"
    assert (
        page.post(at, {"next": "stay"}).headers["Location"] == f"/t/atelier/datasets/{workshop.dataset.uid}/"
    )
    assert DatasetVersion.objects.for_team(workshop.scenario.team).count() == 1


def test_freezing_nothing_says_why(page: Client, workshop: Workshop) -> None:
    at = f"/t/atelier/datasets/{workshop.dataset.uid}/"
    answer = page.post(f"{at}freeze/", follow=True)
    assert "There is no picture to train with yet" in answer.content.decode()
    assert not DatasetVersion.objects.for_team(workshop.scenario.team).exists()


def test_bulk_form_changes_the_selected_or_all_that_are_shown(page: Client, workshop: Workshop) -> None:
    items = workshop.add(3)
    rows = Item.objects.for_team(workshop.scenario.team)
    rows.filter(pk=items[2].pk).update(caption="")
    at = f"/t/atelier/datasets/{workshop.dataset.uid}/bulk/"
    page.post(at, {"action": "text", "choice": "prepend", "text": "mycup", "items": [items[0].uid]})
    assert list(rows.values_list("caption", flat=True)) == ["mycup, a cup", "a cup", ""]
    answer = page.post(
        at, {"action": "text", "choice": "set", "text": "new", "everything": "1", "show": "uncaptioned"}
    )
    assert answer.headers["Location"].endswith("?show=uncaptioned")
    assert list(rows.values_list("caption", flat=True)) == ["mycup, a cup", "a cup", "new"]
    page.post(at, {"action": "exclude", "uids": f"{items[0].uid},{items[1].uid}"})
    assert list(rows.values_list("excluded", flat=True)) == [True, True, False]
    answer = page.post(at, {"action": "delete"}, follow=True)
    assert "Select pictures first" in answer.content.decode()
    assert rows.count() == 3


def test_bulk_deletion_asks_first_and_says_what_it_deleted(page: Client, workshop: Workshop) -> None:
    workshop.add(3)
    at = f"/t/atelier/datasets/{workshop.dataset.uid}/"
    shown = page.get(at).content.decode()
    assert 'name="action" value="delete" data-confirm="delete-pictures"' in shown
    assert 'id="delete-pictures"' in shown
    # The question comes along when the pictures are loaded anew.
    assert 'id="delete-pictures"' in page.get(at, {"part": "body"}).content.decode()
    answer = page.post(f"{at}bulk/", {"action": "delete", "everything": "1"}, follow=True)
    assert "3 pictures deleted." in answer.content.decode()
    assert not Item.objects.for_team(workshop.scenario.team).exists()


def test_number_that_would_be_changed_is_that_of_the_pictures_shown(page: Client, workshop: Workshop) -> None:
    workshop.add(3)
    workshop.add(2, caption="a mug", start=3)
    at = f"/t/atelier/datasets/{workshop.dataset.uid}/"
    for narrowing, total in (({}, 5), ({"q": "mug"}, 2), ({"show": "excluded", "q": "mug"}, None)):
        shown = page.get(at, narrowing).content.decode()
        assert (f'data-total="{total}"' in shown) is (total is not None)


def test_caption_is_saved_by_script_and_by_form(page: Client, workshop: Workshop) -> None:
    first, second = workshop.add(2)
    at = f"/t/atelier/items/{first.uid}/caption/"
    answer = page.post(at, {"caption": "by script"}, headers={"Accept": "application/json"})
    assert (answer.status_code, answer.content) == (204, b"")
    answer = page.post(at, {"caption": "by form", "next": second.uid, "narrowing": "show=small&q=cup"})
    assert answer.headers["Location"] == f"/t/atelier/items/{second.uid}/?show=small&q=cup"
    first.refresh_from_db()
    assert first.caption == "by form"
    too_long = page.post(at, {"caption": "x" * 4001}, headers={"Accept": "application/json"})
    assert (too_long.status_code, too_long.json()["code"]) == (422, "caption_too_long")


@pytest.mark.parametrize("following", ["a/b", "../x", "img_1", "trn_" + "0" * 26, "img_" + "0" * 26 + "\n"])
def test_caption_form_goes_on_to_pictures_only(page: Client, workshop: Workshop, following: str) -> None:
    [item] = workshop.add(1)
    answer = page.post(f"/t/atelier/items/{item.uid}/caption/", {"caption": "new", "next": following})
    assert (answer.status_code, answer.headers["Location"]) == (303, f"/t/atelier/items/{item.uid}/")
    item.refresh_from_db()
    assert item.caption == "new"


def test_editor_knows_its_neighbours(page: Client, workshop: Workshop) -> None:
    items = workshop.add(3)
    shown = page.get(f"/t/atelier/items/{items[1].uid}/").content.decode()
    assert "2 / 3" in shown
    assert f"/t/atelier/items/{items[0].uid}/" in shown
    assert f"/t/atelier/items/{items[2].uid}/" in shown
    part = page.get(f"/t/atelier/items/{items[1].uid}/", headers={"HX-Request": "true"}).content.decode()
    assert "<html" not in part
    assert 'id="editor"' in part


def test_picture_is_excluded_and_deleted_in_the_editor(page: Client, workshop: Workshop) -> None:
    first, second = workshop.add(2)
    page.post(f"/t/atelier/items/{first.uid}/exclude/", {"excluded": "1"})
    first.refresh_from_db()
    assert first.excluded is True
    answer = page.post(f"/t/atelier/items/{first.uid}/delete/")
    assert answer.headers["Location"] == f"/t/atelier/items/{second.uid}/"
    answer = page.post(f"/t/atelier/items/{second.uid}/delete/")
    assert answer.headers["Location"] == f"/t/atelier/datasets/{workshop.dataset.uid}/"
    assert not Item.objects.for_team(workshop.scenario.team).exists()
    verbs = AuditEvent.objects.for_team(workshop.scenario.team).filter(verb="item.deleted")
    assert verbs.count() == 2


def test_editor_stays_among_the_pictures_that_are_shown(page: Client, workshop: Workshop) -> None:
    first, other, second = workshop.add(1, ""), workshop.add(1, start=1), workshop.add(1, "", start=2)
    at, narrowing = f"/t/atelier/items/{first[0].uid}/", "show=uncaptioned"
    shown = page.get(f"{at}?{narrowing}").content.decode()
    assert "1 / 2" in shown
    assert shown.count(f'name="narrowing" value="{narrowing}"') == 3
    assert 'data-confirm="delete-picture"' in shown
    answer = page.post(f"{at}exclude/", {"excluded": "1", "narrowing": narrowing})
    assert answer.headers["Location"] == f"{at}?{narrowing}"
    # It is not among them any more, but has its place as long as it is open.
    assert "1 / 2" in page.get(answer.headers["Location"]).content.decode()
    answer = page.post(f"{at}delete/", {"narrowing": narrowing})
    assert answer.headers["Location"] == f"/t/atelier/items/{second[0].uid}/?{narrowing}"
    answer = page.post(f"/t/atelier/items/{second[0].uid}/delete/", {"narrowing": narrowing})
    assert answer.headers["Location"] == f"/t/atelier/datasets/{workshop.dataset.uid}/?{narrowing}"
    assert Item.objects.for_team(workshop.scenario.team).get() == other[0]


def test_every_version_is_counted_and_can_be_reached(page: Client, workshop: Workshop) -> None:
    [item] = workshop.add(1)
    for number in range(1, 24):
        Item.objects.for_team(workshop.scenario.team).filter(pk=item.pk).update(caption=f"cup {number}")
        freeze_dataset(actor=workshop.alice, uid=workshop.dataset.uid)
    at = f"/t/atelier/datasets/{workshop.dataset.uid}/"
    first = page.get(at, {"show": "small"}).content.decode()
    assert "23 versions" in first
    assert ">v4<" in first
    assert ">v3<" not in first
    assert 'href="?show=small&amp;page=2#versions"' in first
    older = page.get(at, {"show": "small", "page": "2"}).content.decode()
    assert "23 versions" in older
    assert [f">v{number}<" in older for number in (4, 3, 1)] == [False, True, True]


def test_version_keeps_a_deleted_picture(page: Client, workshop: Workshop) -> None:
    items = workshop.add(2)
    version = freeze_dataset(actor=workshop.alice, uid=workshop.dataset.uid)
    page.post(f"/t/atelier/items/{items[0].uid}/delete/")
    kept = version.items.select_related("blob").get(blob_id=items[0].blob_id)
    assert page.get(f"/t/atelier/pictures/{kept.blob.uid}/").status_code == 200


def test_pictures_are_cached_for_good_and_never_sniffed(page: Client, workshop: Workshop) -> None:
    [item] = workshop.add(1)
    address = f"/t/atelier/pictures/{item.blob.uid}/"
    answer = page.get(address)
    key = storage.blob_key(workshop.scenario.team.uid, item.blob.sha256)
    assert b"".join(answer) == storage.read_bytes(key)
    assert answer.headers["Content-Type"] == "image/png"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "private, max-age=31536000, immutable"
    assert answer.headers["ETag"] == f'"{item.blob.sha256}"'
    again = page.get(address, headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    small = page.get(f"/t/atelier/thumbnails/{item.blob.uid}/")
    assert (small.headers["Content-Type"], small.content) == ("image/webp", b"RIFF")


def test_weights_are_no_picture(page: Client, workshop: Workshop) -> None:
    version = make_version(workshop)
    weights = Blob.objects.for_team(workshop.scenario.team).get(content_type="application/octet-stream")
    assert page.get(f"/t/atelier/pictures/{weights.uid}/").status_code == 404
    assert page.get(f"/t/atelier/thumbnails/{weights.uid}/").status_code == 404
    file = version.files.first()
    assert file is not None
    answer = page.get(f"/t/atelier/lora-files/{file.uid}/download/", follow=True)
    assert b"".join(answer) == b"weights " * 100
    assert answer.headers["Content-Disposition"].startswith("attachment;")


def test_archived_project_takes_no_pictures_and_freezes_nothing(page: Client, workshop: Workshop) -> None:
    workshop.add(1)
    at = f"/t/atelier/datasets/{workshop.dataset.uid}/"
    controls = ('data-module="uploads"', 'id="freeze"', "Freeze and stay here", "trainings/new/?version=")
    version = freeze_dataset(actor=workshop.alice, uid=workshop.dataset.uid)
    shown = page.get(at).content.decode()
    assert all(control in shown for control in controls)
    page.post(f"/t/atelier/projects/{workshop.dataset.project.uid}/archive/", {"archived": "1"})
    shown = page.get(at).content.decode()
    assert not any(control in shown for control in controls)
    assert "Pictures cannot be added and versions cannot be frozen" in shown
    Item.objects.for_team(workshop.scenario.team).update(caption="changed")
    tus = {"Tus-Resumable": "1.0.0", "Upload-Length": "10", "Accept": "application/json"}
    for answer in (
        page.post(f"{at}uploads/", headers=tus),
        page.post(f"{at}uploads/form/", {"files": [SimpleUploadedFile("a.png", b"x")]}),
        page.post(f"{at}freeze/"),
    ):
        assert answer.status_code == 409
        assert "This project is archived" in answer.content.decode()
    assert not Upload.objects.for_team(workshop.scenario.team).exists()
    assert DatasetVersion.objects.for_team(workshop.scenario.team).get() == version
