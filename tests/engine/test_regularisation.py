"""Regularisation pictures: how many an epoch has, what they are called, and what they count."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from training.engine.api import LoRATrainer
from training.engine.data.checks import check_set
from training.engine.data.dataset import Dataset
from training.engine.data.manifest import read_items
from training.engine.data.sampler import Sampler, spread
from training.engine.data_sections import DatasetSpec
from training.engine.errors import DataError
from training.engine.spec import RunSpec

from .conftest import Build, make_spec, recorded

SIZES = st.dictionaries(st.sampled_from("abcd"), st.integers(1, 20), min_size=1)


@given(SIZES, st.integers(0, 60))
def test_mixed_in_pictures_are_parted_in_proportion_and_no_bucket_is_forgotten(
    sizes: dict[str, int], total: int
) -> None:
    parts = spread(total, sizes)
    assert sum(parts.values()) == total
    assert parts.keys() == sizes.keys()
    if total >= len(sizes):
        assert min(parts.values()) >= 1
    for name, size in sizes.items():
        assert abs(parts[name] - total * size / sum(sizes.values())) < len(sizes)


@given(SIZES, SIZES, st.integers(1, 40), st.integers(1, 5), st.integers(0, 9))
def test_every_epoch_has_each_picture_once_and_the_stated_number_of_the_others(
    own: dict[str, int], others: dict[str, int], amount: int, batch: int, seed: int
) -> None:
    def numbered(sizes: dict[str, int], start: int) -> dict[str, list[int]]:
        found = {}
        for name, size in sizes.items():
            found[name] = list(range(start, start + size))
            start += size
        return found

    mixed_in = numbered(others, 1000)
    sampler = Sampler(
        numbered(own, 0), batch_size=batch, gradient_accumulation=1, seed=seed, fill=True, mixed_in=mixed_in,
        amount=amount,
    )  # fmt: skip
    shown: Counter[int] = Counter()
    for epoch in range(12):
        batches = sampler.epoch(epoch)
        assert len(batches) == sampler.steps_per_epoch
        seen = Counter(index for members in batches for index in members)
        assert {index: times for index, times in seen.items() if index < 1000} == dict.fromkeys(
            range(sum(own.values())), 1
        )
        shown.update({index: times for index, times in seen.items() if index >= 1000})
        assert sum(seen.values()) == sum(own.values()) + amount == sum(sampler.bucket_samples.values())
    for members in mixed_in.values():
        times = [shown[index] for index in members]
        assert max(times) - min(times) <= 1, "all of a bucket are seen equally often"


@pytest.fixture
def class_pictures(tmp_path: Path) -> Path:
    """Six pictures of a class, two of them wide; four with a caption of their own."""
    folder = tmp_path / "class"
    folder.mkdir()
    for index in range(6):
        Image.new("RGB", (72 if index < 2 else 48, 48), (9, 40 * index, 9)).save(folder / f"c{index}.png")
        if index < 4:
            (folder / f"c{index}.txt").write_text(f"some dish {index}, plain")
    return folder


def with_class(build: Build, folder: Path, **sections: Any) -> LoRATrainer:
    regularisation = {"folder": str(folder), **sections.pop("regularisation", {})}
    return build(regularisation=regularisation, **sections)


def test_class_pictures_are_mixed_in_without_the_trigger_word(build: Build, class_pictures: Path) -> None:
    trainer = with_class(
        build, class_pictures, regularisation={"ratio": 0.5}, training={"batch_size": 3, "caption_dropout": 1.0},
    )  # fmt: skip
    dataset = trainer.dataset
    assert (len(dataset.pictures), len(dataset.regularisation), dataset.held_out) == (10, 6, [])
    texts: dict[str, set[str]] = {"train": set(), "regularisation": set()}
    counts: Counter[str] = Counter()
    for step in range(3 * dataset.plan.steps_per_epoch):
        for draw in (draw for batch in trainer.computer.draws(step) for draw in batch):
            texts[draw.picture.kind].add(draw.text)
            counts[draw.picture.kind] += 1
    assert counts == {"train": 30, "regularisation": 15}
    assert texts["train"] == {""}
    assert texts["regularisation"] == {"", *(f"some dish {n}, plain" for n in range(4))}
    trainer.train()
    (plan,) = recorded(trainer).of("plan")
    assert (plan.images, sum(plan.buckets.values())) == (10, 15)
    assert not recorded(trainer).of("warning")


def test_one_text_may_stand_for_all_class_pictures(class_pictures: Path, pictures: Path) -> None:
    regularisation = {"folder": str(class_pictures), "template": "a photo of a dish"}
    dataset = Dataset(make_spec(Path("sd"), pictures, regularisation=regularisation), 8)
    assert {dataset.text(p) for p in dataset.regularisation} == {"a photo of a dish"}
    assert dataset.text(dataset.pictures[3]) == "inky, plate 3, plain"
    assert "a photo of a dish" in dataset.all_texts()


def test_class_pictures_count_by_their_weight(build: Build, class_pictures: Path) -> None:
    trainer = with_class(build, class_pictures, regularisation={"weight": 0.25}, training={"batch_size": 4})
    plain = with_class(build, class_pictures, run="plain", training={"batch_size": 4})
    kinds = set()
    for step in range(4):
        (draws,) = trainer.computer.draws(step)
        with torch.no_grad():
            weighed = trainer.computer.losses(draws)
            unweighed = plain.computer.losses(plain.computer.draws(step)[0])
        factors = [0.25 if draw.picture.kind == "regularisation" else 1.0 for draw in draws]
        assert torch.allclose(weighed, unweighed * torch.tensor(factors), rtol=1e-6)
        trainer.optimizer.zero_grad()
        assert float(trainer.computer.backward(step, 2)) == pytest.approx(float(weighed.mean()), rel=1e-5)
        kinds.update(draw.picture.kind for draw in draws)
    assert kinds == {"train", "regularisation"}


def test_class_pictures_are_never_held_out(class_pictures: Path, pictures: Path) -> None:
    entries = [{"path": str(path), "held_out": True} for path in sorted(class_pictures.glob("*.png"))]
    manifest = class_pictures / "set.json"
    manifest.write_text(json.dumps({"items": entries}))
    spec = make_spec(
        Path("sd"), pictures, regularisation={"manifest": str(manifest)}, training={"held_out": 0.3}
    )
    dataset = Dataset(spec, 8)
    assert len(dataset.regularisation) == 6
    assert {p.item.path.parent for p in dataset.held_out} == {pictures}


def test_trigger_word_among_class_pictures_is_told(class_pictures: Path, pictures: Path) -> None:
    (class_pictures / "c2.txt").write_text("an Inky dish")
    spec = make_spec(Path("sd"), pictures, regularisation={"folder": str(class_pictures)})
    assert [(w.code, w.message) for w in check_set(Dataset(spec, 8))] == [(
        "regularisation_trigger",
        "The trigger word is in the captions of regularisation pictures, e.g. of 'c2.png'.",
    )]  # fmt: skip


def test_missing_class_pictures_are_an_error(tmp_path: Path, pictures: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError) as caught:
        Dataset(make_spec(Path("sd"), pictures, regularisation={"folder": str(tmp_path / "none")}), 8)
    assert caught.value.code == "no_regularisation"


def test_checkpoint_belongs_to_the_class_pictures_too(class_pictures: Path, pictures: Path) -> None:
    def digest() -> str:
        return Dataset(
            make_spec(Path("sd"), pictures, regularisation={"folder": str(class_pictures)}), 8
        ).sha256

    without = Dataset(make_spec(Path("sd"), pictures), 8).sha256
    before = digest()
    (class_pictures / "c5.png").unlink()
    assert len({without, before, digest()}) == 3


def test_paths_of_class_pictures_start_at_the_file_and_are_no_part_of_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(
        "name: x\nbase_model: {path: base}\ndataset: {folder: set}\nregularisation: {folder: dogs, ratio: 2}\n"
    )
    spec = RunSpec.load(tmp_path / "run.yaml")
    assert spec.regularisation.folder == str(tmp_path / "dogs")
    assert spec.recipe()["regularisation"] == {"ratio": 2.0, "weight": 1.0, "template": "{caption}"}
    assert spec.samples(10) == 30


# -- the weight of a picture ------------------------------------------------------------------------------------------


def test_picture_may_have_a_weight_of_its_own(build: Build, tmp_path: Path) -> None:
    Image.new("RGB", (40, 40), "red").save(tmp_path / "a.png")
    path = tmp_path / "set.json"
    losses = {}
    for weight in (1.0, 0.5):
        path.write_text(json.dumps({"items": [{"path": "a.png", "weight": weight}]}))
        trainer = build(
            run=str(weight), dataset={"folder": None, "manifest": str(path)}, training={"batch_size": 2}
        )
        losses[weight] = float(trainer.computer.backward(0, 2))
    assert losses[0.5] == pytest.approx(losses[1.0] / 2, rel=1e-6)


@pytest.mark.parametrize("weight", [-0.1, 101, "1", True, float("nan")])
def test_wrong_weight_is_refused(tmp_path: Path, weight: Any) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "set.json").write_text(json.dumps({"items": [{"path": "a.png", "weight": weight}]}))
    with pytest.raises(DataError, match="entry 0 of the manifest: weight") as caught:
        read_items(DatasetSpec(manifest=str(tmp_path / "set.json")))
    assert caught.value.code == "manifest_broken"
