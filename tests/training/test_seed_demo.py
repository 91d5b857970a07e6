"""The demo: made through the real services, once, and never in production."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client

from accounts.models import Membership, Team, User
from projects.models import Dataset, DatasetVersion, Item
from training.engine.data.identity import ModelIdentity
from training.models import FoundationModel, TrainingJob
from training.services.foundation_models import folder_sha256

pytestmark = pytest.mark.django_db


@pytest.fixture
def var(tmp_path: Path, settings: Any) -> Path:
    settings.VAR_DIR = tmp_path
    return tmp_path


def test_the_demo_is_whole_and_its_first_training_waits(var: Path) -> None:
    call_command("seed_demo")
    team = Team.objects.get(slug="demo")
    datasets = {dataset.name: dataset for dataset in Dataset.objects.for_team(team)}
    assert sorted(datasets) == ["Ink", "Pastel sticker", "Pixel handheld"]
    for dataset in datasets.values():
        items = Item.objects.for_team(team).filter(dataset=dataset)
        assert items.count() == 20
        assert not items.filter(caption="").exists()
        assert DatasetVersion.objects.for_team(team).get(dataset=dataset).item_count == 20
    base = FoundationModel.objects.get()
    assert (base.key, base.path, base.is_demo) == ("demo", "base", True)
    assert base.prompts[:2] == ["a panda", "a cat"]
    job = TrainingJob.objects.for_team(team).get()
    assert (job.name, job.state, job.foundation_model) == ("Pastel sticker icons", "queued", base)
    assert job.spec["trigger"] == "pastel style"
    assert job.spec["sampling"]["prompts"][0] == "a panda, pastel style"


def test_the_noted_login_opens_the_team(var: Path) -> None:
    call_command("seed_demo", no_training=True)
    note = var / "demo.json"
    assert stat.S_IMODE(note.stat().st_mode) == 0o600
    login = json.loads(note.read_text())
    client = Client()
    answer = client.post("/account/login/", {"login": login["email"], "password": login["password"]})
    assert answer.status_code == 302
    assert client.get("/t/demo/projects/").status_code == 200


def test_a_second_time_changes_nothing(var: Path) -> None:
    call_command("seed_demo")
    login = (var / "demo.json").read_text()
    team = Team.objects.get()

    def counts() -> list[int]:
        tables = [Dataset, Item, DatasetVersion, TrainingJob]
        return [table.objects.for_team(team).count() for table in tables] + [User.objects.count()]

    before = counts()
    call_command("seed_demo")
    assert counts() == before
    assert (var / "demo.json").read_text() == login


def test_a_lost_note_gives_a_new_password_to_the_same_person(var: Path) -> None:
    call_command("seed_demo", no_training=True)
    first = json.loads((var / "demo.json").read_text())
    (var / "demo.json").unlink()
    call_command("seed_demo", no_training=True)
    second = json.loads((var / "demo.json").read_text())
    assert first["password"] != second["password"]
    assert User.objects.get().check_password(second["password"])
    assert Membership.objects.count() == 1


def test_production_gets_no_demo(var: Path, settings: Any, capsys: pytest.CaptureFixture[str]) -> None:
    settings.PRODUCTION = True
    call_command("seed_demo")
    assert "no demo" in capsys.readouterr().err
    assert not User.objects.exists()
    assert not (var / "demo.json").exists()


def test_the_digest_of_a_base_model_is_the_one_the_engine_gives(tmp_path: Path, settings: Any) -> None:
    folder = Path(settings.BASE_MODELS_DIR) / "base"
    assert folder_sha256(folder) == ModelIdentity(tmp_path / "identity.json").sha256([folder])
