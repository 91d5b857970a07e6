"""Projects, datasets, versions and models through the API."""

from __future__ import annotations

from typing import Any

import pytest
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from accounts.models import AuditEvent
from accounts.roles import Can
from core.models import IdempotencyRecord
from projects.models import DatasetVersionItem, Item, LoraFile, LoraVersion, Project
from projects.services.blobs import store_blob
from projects.services.loras import NewFile, NewSample, register_version
from projects.services.versions import freeze_dataset
from tests.factories import png_bytes
from tests.projects.conftest import Workshop, api_client

pytestmark = pytest.mark.django_db


def make_version(workshop: Workshop, training_uid: str = "trn_1", name: str = "Cup") -> LoraVersion:
    team = workshop.scenario.team
    if not Item.objects.for_team(team).exists():
        workshop.add(2)
    weights = store_blob(team=team, content=b"weights " * 100, content_type="application/octet-stream")
    drawn = store_blob(
        team=team, content=png_bytes(seed="drawn"), content_type="image/png", width=64, height=48
    )
    return register_version(
        team=team,
        project=workshop.dataset.project,
        name=name,
        created_by=workshop.alice.user,
        training_uid="trn_" + training_uid.removeprefix("trn_").zfill(26),
        dataset_version=freeze_dataset(actor=workshop.alice, uid=workshop.dataset.uid),
        base_model="demo",
        base_sha256="a" * 64,
        recipe_sha256="b" * 64,
        seed=42,
        steps=100,
        rank=8,
        engine_version="0.1.0",
        verified_keys=64,
        trigger_words="mycup",
        files=[
            NewFile(blob=weights, filename="Cup 杯.safetensors", step=100, epoch=10, is_final=True),
            NewFile(blob=weights, filename="Cup-step50.safetensors", step=50, epoch=5),
        ],
        samples=[
            NewSample(blob=drawn, step=100, prompt_index=0, prompt="mycup", seed=1, with_lora=with_lora)
            for with_lora in (False, True)
        ],
    )


def test_me_names_the_team_and_what_the_key_may_do(api: APIClient, workshop: Workshop) -> None:
    me = api.get("/api/v1/me").json()
    assert (me["object"], me["team"]["slug"], me["user"]["email"]) == ("me", "atelier", "alice@example.org")
    assert "datasets:write" in me["scopes"]
    assert APIClient().get("/api/v1/me").status_code == 401


def test_project_is_made_changed_and_archived(api: APIClient, workshop: Workshop) -> None:
    answer = api.post("/api/v1/projects", {"name": " Lamps  2 "}, format="json")
    assert answer.status_code == 201
    lamps = answer.json()
    assert (lamps["object"], lamps["name"], lamps["datasets"]) == ("project", "Lamps 2", 0)
    address = f"/api/v1/projects/{lamps['id']}"
    assert api.patch(address, {"description": "warm"}, format="json").json()["description"] == "warm"
    assert api.patch(address, {"archived": True}, format="json").json()["archived_at"] is not None
    assert [p["name"] for p in api.get("/api/v1/projects").json()["data"]] == ["Cups"]
    assert [p["name"] for p in api.get("/api/v1/projects?archived=true").json()["data"]] == ["Lamps 2"]
    verbs = AuditEvent.objects.for_team(workshop.scenario.team).values_list("verb", flat=True)
    assert {"project.created", "project.changed", "project.archived"} <= set(verbs)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"name": "Cups"}, 409, "name_taken"),
        ({"name": "   "}, 422, "validation_failed"),
        ({"name": "x" * 81}, 422, "validation_failed"),
        ({"nmae": "Lamps"}, 400, "validation_failed"),
    ],
)
def test_project_that_cannot_be_made_says_why(
    api: APIClient, body: dict[str, str], status: int, code: str
) -> None:
    answer = api.post("/api/v1/projects", body, format="json")
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_unknown_filter_is_refused(api: APIClient) -> None:
    answer = api.get("/api/v1/projects?archivd=true")
    assert (answer.status_code, answer.json()["code"]) == (400, "unknown_filter")


def test_items_are_listed_captioned_and_excluded(api: APIClient, workshop: Workshop) -> None:
    workshop.add(3)
    page = api.get(f"/api/v1/datasets/{workshop.dataset.uid}/items?limit=2").json()
    assert (len(page["data"]), page["has_more"]) == (2, True)
    rest = api.get(
        f"/api/v1/datasets/{workshop.dataset.uid}/items", {"limit": 2, "cursor": page["next_cursor"]}
    ).json()
    assert (len(rest["data"]), rest["has_more"], rest["next_cursor"]) == (1, False, None)
    item = page["data"][0]
    assert (item["object"], item["dataset"], item["width"]) == ("item", workshop.dataset.uid, 64)
    changed = api.patch(
        f"/api/v1/items/{item['id']}", {"caption": "a  red\ncup ", "excluded": True}, format="json"
    ).json()
    assert (changed["caption"], changed["excluded"]) == ("a red cup", True)


@pytest.mark.parametrize(
    ("bulk", "caption"),
    [
        ({"action": "set", "text": "tea"}, "tea"),
        ({"action": "set", "text": ""}, ""),
        ({"action": "prepend", "text": "mycup"}, "mycup, red, a cup"),
        ({"action": "append", "text": "photo"}, "red, a cup, photo"),
        ({"action": "replace", "text": "cup", "replacement": "mug"}, "red, a mug"),
        ({"action": "remove", "text": "red"}, "a cup"),
    ],
)
def test_bulk_changes_of_captions(
    api: APIClient, workshop: Workshop, bulk: dict[str, str], caption: str
) -> None:
    first, second = workshop.add(2, caption="red, a cup")
    address = f"/api/v1/datasets/{workshop.dataset.uid}/items:batch"
    answer = api.post(address, {**bulk, "items": [first.uid]}, format="json")
    assert (answer.status_code, answer.json()) == (
        200,
        {"changed": 1, "results": [{"item": first.uid, "outcome": "changed"}]},
    )
    captions = dict(Item.objects.for_team(workshop.scenario.team).values_list("uid", "caption"))
    assert captions == {first.uid: caption, second.uid: "red, a cup"}


def test_bulk_excludes_includes_and_deletes(api: APIClient, workshop: Workshop) -> None:
    first, second = workshop.add(2)
    address = f"/api/v1/datasets/{workshop.dataset.uid}/items:batch"
    items = Item.objects.for_team(workshop.scenario.team)
    assert api.post(address, {"action": "exclude"}, format="json").json() == {"changed": 2, "results": []}
    api.post(address, {"action": "include", "items": [second.uid]}, format="json")
    assert list(items.values_list("excluded", flat=True)) == [True, False]
    api.post(address, {"action": "delete", "items": [first.uid]}, format="json")
    assert [item.uid for item in items.all()] == [second.uid]


def test_bulk_that_makes_a_caption_too_long_changes_nothing(api: APIClient, workshop: Workshop) -> None:
    workshop.add(1)
    workshop.add(1, caption="x" * 3990, start=1)
    address = f"/api/v1/datasets/{workshop.dataset.uid}/items:batch"
    answer = api.post(address, {"action": "append", "text": "y" * 20}, format="json")
    assert (answer.status_code, answer.json()["code"]) == (422, "caption_too_long")
    captions = Item.objects.for_team(workshop.scenario.team).values_list("caption", flat=True)
    assert list(captions) == ["a cup", "x" * 3990]


def test_unchanged_dataset_gives_its_old_version_back(api: APIClient, workshop: Workshop) -> None:
    items = workshop.add(3)
    Item.objects.for_team(workshop.scenario.team).filter(pk=items[2].pk).update(excluded=True)
    address = f"/api/v1/datasets/{workshop.dataset.uid}/versions"
    first = api.post(address).json()
    assert (first["object"], first["number"], first["items"]) == ("dataset_version", 1, 2)
    assert api.post(address).json() == first
    api.patch(f"/api/v1/items/{items[0].uid}", {"caption": "a tall cup"}, format="json")
    second = api.post(address).json()
    assert (second["number"], second["id"] != first["id"]) == (2, True)
    assert api.get(f"/api/v1/dataset_versions/{first['id']}").json() == first
    frozen = DatasetVersionItem.objects.for_team(workshop.scenario.team).filter(version__uid=first["id"])
    assert {row.caption for row in frozen} == {"a cup"}
    api.patch(f"/api/v1/items/{items[0].uid}", {"caption": "a cup"}, format="json")
    assert api.post(address).json()["id"] == first["id"]


def test_empty_dataset_cannot_be_frozen(api: APIClient, workshop: Workshop) -> None:
    answer = api.post(f"/api/v1/datasets/{workshop.dataset.uid}/versions")
    assert (answer.status_code, answer.json()["code"]) == (422, "dataset_empty")


def test_version_is_registered_once_per_training(workshop: Workshop) -> None:
    first = make_version(workshop)
    assert make_version(workshop).pk == first.pk
    second = make_version(workshop, "trn_2")
    assert (first.number, second.number, second.model_id) == (1, 2, first.model_id)
    assert LoraVersion.objects.for_team(workshop.scenario.team).count() == 2


def test_model_version_is_downloaded(api: APIClient, workshop: Workshop) -> None:
    version = make_version(workshop)
    [model] = api.get("/api/v1/models").json()["data"]
    assert (model["name"], model["versions"], model["newest_version"]) == ("Cup", 1, 1)
    [shown] = api.get(f"/api/v1/models/{model['id']}/versions").json()["data"]
    assert (shown["id"], shown["verified_keys"], shown["seed"]) == (version.uid, 64, 42)
    assert [file["step"] for file in shown["files"]] == [100, 50]
    answer = api.get(shown["urls"]["download"], follow=True)
    assert answer.status_code == 200
    assert b"".join(answer) == b"weights " * 100
    assert answer.headers["Content-Disposition"] == (
        "attachment; filename*=utf-8''Cup%20%E6%9D%AF.safetensors"
    )
    answer = api.get(shown["urls"]["download"], {"file": shown["files"][1]["id"]}, follow=True)
    assert answer.headers["Content-Disposition"] == 'attachment; filename="Cup-step50.safetensors"'
    assert api.get(shown["urls"]["download"], {"file": "lrf_nothing"}).status_code == 404


def test_a_version_and_a_model_are_deleted_and_their_training_stays(
    api: APIClient, workshop: Workshop
) -> None:
    team = workshop.scenario.team
    first, second = make_version(workshop), make_version(workshop, "trn_2")
    address = f"/api/v1/model_versions/{second.uid}"
    assert api.delete(address).status_code == 204
    assert api.delete(address).status_code == 404
    [shown] = api.get(f"/api/v1/models/{first.model.uid}/versions").json()["data"]
    assert shown["id"] == first.uid
    # A number is not given twice.
    assert make_version(workshop, "trn_3").number == 3
    assert api.delete(f"/api/v1/models/{first.model.uid}").status_code == 204
    assert api.get("/api/v1/models").json()["data"] == []
    assert not LoraFile.objects.for_team(team).exists()
    verbs = list(AuditEvent.objects.for_team(team).order_by("pk").values_list("verb", flat=True))
    assert verbs[-2:] == ["model_version.deleted", "model.deleted"]


def test_key_without_the_right_to_weights_cannot_download(workshop: Workshop) -> None:
    version = make_version(workshop)
    api = api_client(workshop.alice, scopes=[Can.MODEL_VIEW])
    assert api.get(f"/api/v1/model_versions/{version.uid}").status_code == 200
    answer = api.get(f"/api/v1/model_versions/{version.uid}/download")
    assert (answer.status_code, answer.json()["permission"]) == (403, "weights:read")


def addresses(workshop: Workshop) -> list[tuple[str, str]]:
    version = make_version(workshop)
    item = Item.objects.for_team(workshop.scenario.team).first()
    frozen = version.dataset_version
    assert item is not None
    assert frozen is not None
    base, dataset = "/api/v1", f"/api/v1/datasets/{workshop.dataset.uid}"
    return [
        ("get", f"{base}/projects/{workshop.dataset.project.uid}"),
        ("patch", f"{base}/projects/{workshop.dataset.project.uid}"),
        ("get", dataset),
        ("patch", dataset),
        ("delete", dataset),
        ("get", f"{dataset}/items"),
        ("post", f"{dataset}/items:batch"),
        ("get", f"{dataset}/versions"),
        ("post", f"{dataset}/versions"),
        ("get", f"{base}/items/{item.uid}"),
        ("patch", f"{base}/items/{item.uid}"),
        ("delete", f"{base}/items/{item.uid}"),
        ("get", f"{base}/dataset_versions/{frozen.uid}"),
        ("get", f"{base}/models/{version.model.uid}"),
        ("get", f"{base}/models/{version.model.uid}/versions"),
        ("get", f"{base}/model_versions/{version.uid}"),
        ("get", f"{base}/model_versions/{version.uid}/download"),
    ]


_BODIES: dict[str, Any] = {"patch": {"name": "Mine"}, "post": {"action": "delete"}}


def test_key_of_a_stranger_finds_nothing(workshop: Workshop) -> None:
    rows = addresses(workshop)
    stranger = api_client(workshop.scenario.charlie)
    for method, address in rows:
        body = {"caption": "mine"} if "/items/" in address and method == "patch" else _BODIES.get(method)
        answer = getattr(stranger, method)(address, body, format="json" if method != "get" else None)
        assert answer.status_code == 404, (method, address, answer.content)
        assert answer.json()["code"] == "not_found"
    assert stranger.get("/api/v1/projects").json()["data"] == []
    assert stranger.get("/api/v1/models").json()["data"] == []
    assert Item.objects.for_team(workshop.scenario.team).count() == 2


def test_read_only_key_changes_nothing(workshop: Workshop) -> None:
    rows = addresses(workshop)
    api = api_client(workshop.alice, scopes=[Can.PROJECT_VIEW, Can.DATASET_VIEW, Can.MODEL_VIEW])
    for method, address in rows:
        answer = getattr(api, method)(
            address, _BODIES.get(method), format="json" if method != "get" else None
        )
        expected = 403 if method != "get" or address.endswith("/download") else 200
        assert answer.status_code == expected, (method, address)
    assert Item.objects.for_team(workshop.scenario.team).count() == 2
    assert Project.objects.for_team(workshop.scenario.team).get().name == "Cups"


@pytest.mark.parametrize("what", ["projects", "datasets", "items", "models"])
def test_lists_cost_the_same_for_two_and_for_many(
    api: APIClient, workshop: Workshop, django_assert_num_queries: Any, what: str
) -> None:
    from django.db import connection

    def fill(count: int) -> None:
        from projects.services.datasets import create_dataset
        from projects.services.projects import create_project

        for number in range(count):
            mark = f"{what} {count} {number}"
            if what == "projects":
                create_project(actor=workshop.alice, name=mark)
            elif what == "datasets":
                project = workshop.dataset.project.uid
                create_dataset(actor=workshop.alice, project_uid=project, name=mark)
            elif what == "models":
                make_version(workshop, mark, mark)
        if what == "items":
            workshop.add(count, start=count * 100)

    address = f"/api/v1/{what}?limit=100"
    if what == "items":
        address = f"/api/v1/datasets/{workshop.dataset.uid}/items?limit=100"
    fill(2)
    api.get(address)  # the key's last use is noted once a minute
    with CaptureQueriesContext(connection) as few:
        assert len(api.get(address).json()["data"]) >= 2
    fill(60)
    with django_assert_num_queries(len(few)):
        assert len(api.get(address).json()["data"]) >= 60


def test_repeat_with_the_same_key_gets_the_first_answer(api: APIClient, workshop: Workshop) -> None:
    headers = {"HTTP_IDEMPOTENCY_KEY": "k1"}
    first = api.post("/api/v1/projects", {"name": "Lamps"}, format="json", **headers)
    again = api.post("/api/v1/projects", {"name": "Lamps"}, format="json", **headers)
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["Idempotency-Replayed"] == "true"
    other = api.post("/api/v1/projects", {"name": "Chairs"}, format="json", **headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert Project.objects.for_team(workshop.scenario.team).count() == 2


def test_key_in_flight_is_a_conflict(api: APIClient, workshop: Workshop) -> None:
    headers = {"HTTP_IDEMPOTENCY_KEY": "k1"}
    api.post("/api/v1/projects", {"name": "Lamps"}, format="json", **headers)
    IdempotencyRecord.objects.for_team(workshop.scenario.team).update(status=None, body=None)
    answer = api.post("/api/v1/projects", {"name": "Lamps"}, format="json", **headers)
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_key_in_flight")
    assert answer.json()["retryable"] is True


def test_key_is_free_again_after_an_error(api: APIClient, workshop: Workshop) -> None:
    headers = {"HTTP_IDEMPOTENCY_KEY": "k1"}
    assert api.post("/api/v1/projects", {"name": "Cups"}, format="json", **headers).status_code == 409
    assert api.post("/api/v1/projects", {"name": "Lamps"}, format="json", **headers).status_code == 201


def test_same_key_of_another_team_is_another_key(api: APIClient, workshop: Workshop) -> None:
    headers = {"HTTP_IDEMPOTENCY_KEY": "k1"}
    api.post("/api/v1/projects", {"name": "Lamps"}, format="json", **headers)
    stranger = api_client(workshop.scenario.charlie)
    answer = stranger.post("/api/v1/projects", {"name": "Lamps"}, format="json", **headers)
    assert (answer.status_code, "Idempotency-Replayed" in answer.headers) == (201, False)


def test_repeated_upload_is_taken_once(api: APIClient, workshop: Workshop) -> None:
    from django.core.files.uploadedfile import SimpleUploadedFile

    from projects.models import Upload

    answers = [
        api.post(
            "/api/v1/uploads",
            {"dataset": workshop.dataset.uid, "file": SimpleUploadedFile("a.png", png_bytes())},
            format="multipart",
            HTTP_IDEMPOTENCY_KEY="k1",
        )
        for _again in range(2)
    ]
    assert answers[0].json()["id"] == answers[1].json()["id"]
    assert answers[1].headers["Location"] == answers[0].headers["Location"]
    assert Upload.objects.for_team(workshop.scenario.team).count() == 1
