"""Base models of one's own: registered in the admin, looked into, and never taken at their word."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from accounts.models import User
from training.engine.data.identity import ModelIdentity
from training.models import FoundationModel

ADMIN = "/admin/training/foundationmodel/"
PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")


@pytest.fixture
def operator(db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("operator@example.org", "a long pass phrase", name="Op"))
    return client


@pytest.fixture
def folder(settings: Any, tmp_path: Path) -> Path:
    """A base model in the layout of diffusers, with a safety checker that was never installed."""
    settings.BASE_MODELS_DIR = tmp_path
    base = tmp_path / "mine"
    for part in PARTS:
        (base / part).mkdir(parents=True)
    for part in ("unet", "vae", "text_encoder"):
        (base / part / "config.json").write_text("{}")
        (base / part / "model.safetensors").write_bytes(part.encode())
    index = {part: ["diffusers", "X"] for part in PARTS}
    index |= {
        "_class_name": "StableDiffusionPipeline",
        "safety_checker": ["x", "Y"],
        "image_encoder": [None, None],
    }  # type: ignore[dict-item]
    (base / "model_index.json").write_text(json.dumps(index))
    return base


def form(**changes: Any) -> dict[str, Any]:
    return {
        "key": "mine",
        "name": "My model",
        "family": "sd",
        "path": "mine",
        "licence": "CC0-1.0",
        "resolution": "512",
        "memory_mb": "0",
        "prompts": "",
        "is_active": "on",
        **changes,
    }


def test_operator_registers_a_folder_and_its_digest_is_the_engines_own(
    operator: Client, folder: Path, tmp_path: Path
) -> None:
    answer = operator.post(f"{ADMIN}add/", form(sha256="f" * 64))
    assert answer.status_code == 302
    model = FoundationModel.objects.get()
    assert model.sha256 == ModelIdentity(tmp_path / "identity.json").sha256([folder])
    assert (model.path, model.family, model.is_active) == ("mine", "sd", True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"path": "elsewhere"}, "There is no folder"),
        ({"path": "runwayml/stable-diffusion-v1-5"}, "There is no folder"),
        ({"path": "mine/unet"}, "names on the Hugging Face hub do not work"),
        ({"family": "fluks"}, "The trainer knows no family “fluks”. It knows: "),
    ],
)
def test_what_does_not_work_is_said(
    operator: Client, folder: Path, change: dict[str, str], words: str
) -> None:
    answer = operator.post(f"{ADMIN}add/", form(**change))
    assert answer.status_code == 200
    assert words in str(answer.context["errors"])
    assert not FoundationModel.objects.exists()


def test_missing_part_and_pickled_weights_are_named(operator: Client, folder: Path) -> None:
    (folder / "vae" / "model.safetensors").rename(folder / "vae" / "model.bin")
    answer = operator.post(f"{ADMIN}add/", form())
    assert f"{folder / 'vae'} holds no .safetensors file." in str(answer.context["errors"])
    (folder / "scheduler").rmdir()
    (folder / "vae" / "model.bin").rename(folder / "vae" / "model.safetensors")
    answer = operator.post(f"{ADMIN}add/", form())
    assert "has no folder “scheduler”" in str(answer.context["errors"])
    assert not FoundationModel.objects.exists()


def test_other_changes_do_not_read_the_weights_again_and_the_action_does(
    operator: Client, folder: Path
) -> None:
    operator.post(f"{ADMIN}add/", form())
    before = FoundationModel.objects.get()
    (folder / "unet" / "model.safetensors").write_bytes(b"other weights")
    operator.post(f"{ADMIN}{before.pk}/change/", form(name="Renamed"))
    renamed = FoundationModel.objects.get()
    assert (renamed.name, renamed.sha256) == ("Renamed", before.sha256)
    operator.post(ADMIN, {"action": "read_again", "_selected_action": [before.pk]})
    assert FoundationModel.objects.get().sha256 != before.sha256
