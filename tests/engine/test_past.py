"""Numbers of the past: recipes that use no newer setting get the samples they always got."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from training.engine.checkpoint import Identity
from training.engine.data.dataset import Dataset
from training.engine.noise import sample_noise
from training.engine.registry import load_family
from training.engine.step import StepComputer

from .conftest import make_spec

RECIPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "small batches of two shapes": {"training": {"batch_size": 7}},
    "one shape, smaller than a batch": {"training": {"batch_size": 16, "flip": True}, "only": 3},
    "repeats, accumulation, held-out share": {
        "training": {"batch_size": 3, "gradient_accumulation": 2, "held_out": 0.3, "seed": 9},
        "dataset": {"repeats": 3},
    },
    "tags": {
        "training": {"caption_dropout": 0.3, "flip": True},
        "captions": {"shuffle_tags": True, "keep_tags": 1, "shuffle_variants": 3, "template": "{caption}, {trigger}"},
    },
}  # fmt: skip
STEPS = 25
WANTED = {
    "plain": "dc4a0f801253f2d14a5ff6f1bfe5924c",
    "small batches of two shapes": "fa2a93da2d4f0846363bb41c116131cd",
    "one shape, smaller than a batch": "dd38ad720bb5ab9152f80c549ffd85c1",
    "repeats, accumulation, held-out share": "aa7c07b15a1287ff9e6f3cc77323908b",
    "tags": "82d18e746b41d0cf8277104044dee494",
}
"""Digests of what release 0.1.0 drew; they never change."""


@pytest.fixture
def manifest(pictures: Path, tmp_path: Path) -> Path:
    """The pictures with digests of our own: those of the files depend on the PNG encoder."""
    entries = [
        {
            "path": str(pictures / f"{index}.png"), "sha256": hashlib.sha256(str(index).encode()).hexdigest(),
            "caption": f"plate {index}, red, plain, old", "repeats": 1 + index % 2,
        }
        for index in range(10)
    ]  # fmt: skip
    path = tmp_path / "set.json"
    path.write_text(json.dumps({"items": entries}))
    return path


@pytest.mark.parametrize("name", RECIPES)
def test_samples_are_those_of_the_first_release(name: str, manifest: Path) -> None:
    recipe = dict(RECIPES[name])
    if only := recipe.pop("only", None):
        entries = json.loads(manifest.read_text())["items"]
        kept = [entry for entry in entries if "0.png" not in entry["path"]][1 : only + 1 : 2]
        manifest.write_text(json.dumps({"items": kept}))
    recipe["dataset"] = {"folder": None, "manifest": str(manifest), **recipe.get("dataset", {})}
    spec = make_spec(Path("sd"), manifest.parent, **recipe)
    family = load_family("sd")
    dataset = Dataset(spec, family.divisor)
    computer = StepComputer(spec, family, family.tiny(), dataset, "fp32")
    lines = [
        f"{d.step} {d.index} {d.picture.item.path.stem} {d.picture.bucket} {d.picture.view.crop} {d.flip} "
        f"{d.text!r} {d.u!r}"
        for step in range(STEPS)
        for batch in computer.draws(step)
        for d in batch
    ]
    lines += [f"held out {p.item.path.stem} {dataset.text(p)!r}" for p in dataset.held_out]
    lines += [f"{dataset.plan} {dataset.bucket_samples} {dataset.sha256}"]
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32] == WANTED[name]


def test_noise_is_that_of_the_first_release(manifest: Path) -> None:
    training = make_spec(Path("sd"), manifest.parent, training={"noise_offset": 0.1, "seed": 4}).training
    noise = sample_noise(training, (4, 8, 8), 3, 5)
    assert noise.flatten()[:4].tolist() == pytest.approx([0.970359, 0.336634, -0.860322, -0.056347], abs=1e-5)


def test_checkpoint_from_before_the_newer_settings_of_pictures_still_belongs_to_its_recipe() -> None:
    recipe = make_spec(Path("sd"), Path("pictures"), dataset={"repeats": 3}).recipe()
    old = {name: recipe[name] for name in ("trigger", "method", "training", "base_model")}
    old["captions"] = {
        name: recipe["captions"][name]
        for name in ("template", "shuffle_tags", "keep_tags", "shuffle_variants")
    }
    old["dataset"] = {"repeats": 3}
    saved = {"recipe": old, "dataset_sha256": "d", "base_sha256": "b", "total_steps": 6, "precision": "fp32"}
    assert Identity(recipe, "d", "b", 6, "fp32", "").differences(saved) == []
    changed = {**recipe, "masks": {**recipe["masks"], "outside": 0.5}}
    assert Identity(changed, "d", "b", 6, "fp32", "").differences(saved) == ["/masks/outside was 0.1, is 0.5"]
