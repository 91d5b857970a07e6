"""Who may open and change the pages of the projects app; nobody else leaves a trace."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from accounts.actor import Actor
from accounts.roles import Role
from projects.models import Dataset, Item, Project, Upload
from tests.factories import make_member
from tests.projects.conftest import Workshop, browser
from tests.projects.test_api import make_version

pytestmark = pytest.mark.django_db


def pages_of(workshop: Workshop) -> list[tuple[str, str, dict[str, Any]]]:
    version = make_version(workshop)
    item = Item.objects.for_team(workshop.scenario.team).first()
    file = version.files.first()
    assert item is not None
    assert file is not None
    project, dataset = workshop.dataset.project.uid, workshop.dataset.uid
    return [
        ("view", "projects/", {}),
        ("view", f"projects/{project}/", {}),
        ("view", f"datasets/{dataset}/", {}),
        ("view", f"datasets/{dataset}/uploads/log/", {}),
        ("view", f"datasets/{dataset}/uploads/results/?uids=", {}),
        ("view", f"items/{item.uid}/", {}),
        ("view", f"pictures/{item.blob.uid}/", {}),
        ("view", f"thumbnails/{item.blob.uid}/", {}),
        ("view", "models/", {}),
        ("view", f"models/{version.model.uid}/", {}),
        ("weights", f"lora-files/{file.uid}/download/", {}),
        ("edit", "projects/new/", {"name": "Mine"}),
        ("edit", f"projects/{project}/change/", {"name": "Mine"}),
        ("edit", f"projects/{project}/archive/", {}),
        ("edit", f"projects/{project}/datasets/new/", {"name": "Mine"}),
        ("edit", f"datasets/{dataset}/change/", {"name": "Mine"}),
        ("edit", f"datasets/{dataset}/delete/", {}),
        ("edit", f"datasets/{dataset}/freeze/", {}),
        ("edit", f"datasets/{dataset}/bulk/", {"action": "delete", "everything": "1"}),
        ("edit", f"datasets/{dataset}/uploads/", {}),
        ("edit", f"datasets/{dataset}/uploads/form/", {}),
        ("edit", f"items/{item.uid}/caption/", {"caption": "mine"}),
        ("edit", f"items/{item.uid}/exclude/", {"excluded": "1"}),
        ("edit", f"items/{item.uid}/delete/", {}),
        ("edit", f"model_versions/{version.uid}/delete/", {}),
        ("edit", f"models/{version.model.uid}/delete/", {}),
    ]


def ask(client: Client, kind: str, address: str, body: dict[str, Any]) -> int:
    answer = client.post(address, body) if kind == "edit" else client.get(address)
    return answer.status_code


def unchanged(workshop: Workshop) -> bool:
    items = Item.objects.for_team(workshop.scenario.team)
    return (
        list(items.values_list("caption", "excluded")) == [("a cup", False)] * 2
        and Project.objects.for_team(workshop.scenario.team).get().name == "Cups"
        and Dataset.objects.for_team(workshop.scenario.team).get().name == "First"
        and not Upload.objects.for_team(workshop.scenario.team).exists()
    )


def test_stranger_finds_nothing(workshop: Workshop) -> None:
    rows = pages_of(workshop)
    stranger = browser(workshop.scenario.charlie)
    for kind, address, body in rows:
        assert ask(stranger, kind, f"/t/atelier/{address}", body) == 404, address
        # Through his own team the same uids are not there either.
        if "new" not in address and address not in ("projects/", "models/"):
            assert ask(stranger, kind, f"/t/elsewhere/{address}", body) == 404, address
    assert unchanged(workshop)


@pytest.mark.parametrize("role", [Role.VIEWER, Role.REVIEWER])
def test_viewer_sees_and_changes_nothing(workshop: Workshop, role: Role) -> None:
    rows = pages_of(workshop)
    member: Actor = make_member(workshop.scenario.team, role)
    for kind, address, body in rows:
        expected = 200 if kind == "view" else 403
        assert ask(browser(member), kind, f"/t/atelier/{address}", body) == expected, address
    assert unchanged(workshop)


def test_billing_role_sees_no_pictures(workshop: Workshop) -> None:
    rows = pages_of(workshop)
    member = browser(make_member(workshop.scenario.team, Role.BILLING))
    for kind, address, body in rows:
        assert ask(member, kind, f"/t/atelier/{address}", body) == 403, address


def test_nobody_is_sent_to_the_login(workshop: Workshop) -> None:
    for kind, address, body in pages_of(workshop):
        assert ask(Client(), kind, f"/t/atelier/{address}", body) == 302, address
    assert unchanged(workshop)
