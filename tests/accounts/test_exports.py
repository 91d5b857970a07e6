"""The export of a team is whole, holds no secret, and is the owner's alone; erasing a team leaves nothing of it."""

from __future__ import annotations

import io
import json
import zipfile
from datetime import timedelta
from pathlib import Path

import pytest
from django.core import mail
from django.core.files.storage import default_storage
from django.db import connection
from django.test import Client
from django.utils import timezone

from accounts.duties import delete_old_exports
from accounts.models import AuditEvent, Team, TeamExport
from accounts.roles import Role
from accounts.services.erasure import erase_deleted_teams
from accounts.services.exports import tenant_models, verify_export, write_export
from accounts.tasks import make_export
from core.models import OutboxMessage
from projects.models import Item
from tests.accounts.doors import entered
from tests.factories import make_member
from tests.scenario import Scenario
from tests.world import World, make_world

PRIVACY = "/t/atelier/settings/privacy/"


@pytest.fixture
def world(scenario: Scenario) -> World:
    return make_world(scenario.alice, "mine")


def make_it(client: Client) -> TeamExport:
    assert client.post("/t/atelier/settings/exports/new/").status_code == 303
    row = OutboxMessage.objects.get(actor="make_export")
    make_export(row.pk, row.subject_uid)
    export: TeamExport = TeamExport.unscoped.get(uid=row.subject_uid)
    return export


def test_an_owner_gets_everything_in_one_zip(scenario: Scenario, world: World, client: Client) -> None:
    make_world(scenario.charlie, "theirs")
    client = entered(scenario.alice.user)
    export = make_it(client)
    assert export.state == "ready"
    assert "ready" in str(mail.outbox[-1].subject)
    answer = client.get(f"/t/atelier/settings/exports/{export.uid}/", follow=True)
    content = b"".join(answer)  # type: ignore[arg-type]
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        manifest = json.loads(archive.read("manifest.json"))
        text = "".join(archive.read(n).decode() for n in archive.namelist() if n.startswith("data/"))
        assert archive.read(f"files/{world.blob.sha256}")
    for model in tenant_models():
        label = model._meta.label_lower
        if label in manifest["rows"]:
            # The audit log has grown by the download.
            there = model.objects.for_team(scenario.team).count()
            assert manifest["rows"][label] in (there, there - 1), label
    assert manifest["rows"]["projects.item"] == Item.objects.for_team(scenario.team).count() == 1
    assert "theirs" not in text
    for secret in ("secret_hmac", "password", world.key_text[20:40]):
        assert secret not in text


def test_a_zip_that_lost_a_row_or_a_byte_is_not_whole(world: World, tmp_path: Path) -> None:
    whole = tmp_path / "whole.zip"
    write_export(world.actor.team, whole)
    assert verify_export(whole)["projects.item"] == 1
    for name, change in (("data/projects.item.jsonl", b""), (f"files/{world.blob.sha256}", b"other")):
        broken = tmp_path / "broken.zip"
        with zipfile.ZipFile(whole) as source, zipfile.ZipFile(broken, "w") as target:
            for entry in source.namelist():
                target.writestr(entry, change if entry == name else source.read(entry))
        with pytest.raises(ValueError, match=r"expected|damaged"):
            verify_export(broken)


@pytest.mark.parametrize("role", [Role.ADMIN, Role.EDITOR, Role.VIEWER])
def test_nobody_but_an_owner_exports(scenario: Scenario, client: Client, role: Role) -> None:
    client.force_login(make_member(scenario.team, role).user)
    assert client.post("/t/atelier/settings/exports/new/").status_code == 403
    assert not TeamExport.unscoped.exists()


def test_one_export_at_a_time_and_none_after_a_week(scenario: Scenario, world: World, client: Client) -> None:
    client = entered(scenario.alice.user)
    assert client.post("/t/atelier/settings/exports/new/").status_code == 303
    assert client.post("/t/atelier/settings/exports/new/").status_code == 409
    assert "until you delete it" in client.get(PRIVACY).content.decode()
    TeamExport.unscoped.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert delete_old_exports() == 2  # the world has one too
    assert not TeamExport.unscoped.exists()


def test_a_team_is_erased_two_weeks_after_its_deletion_and_nothing_stays(
    scenario: Scenario, world: World
) -> None:
    theirs = make_world(scenario.charlie, "theirs")
    Team.objects.filter(pk=scenario.team.pk).update(deleted_at=timezone.now() - timedelta(days=13))
    assert erase_deleted_teams() == 0
    Team.objects.filter(pk=scenario.team.pk).update(deleted_at=timezone.now() - timedelta(days=15))
    assert erase_deleted_teams() == 1
    connection.check_constraints()
    assert not Team.objects.filter(pk=scenario.team.pk).exists()
    for model in tenant_models():
        assert not model.unscoped.filter(team_id=scenario.team.pk).exists(), model
    folders, _files = default_storage.listdir("teams")
    assert scenario.team.uid not in folders or default_storage.listdir(f"teams/{scenario.team.uid}") == (
        [],
        [],
    )
    # Of the others everything is there.
    assert Item.objects.for_team(scenario.charlie.team).get() == theirs.item
    assert AuditEvent.objects.for_team(scenario.charlie.team).exists()
