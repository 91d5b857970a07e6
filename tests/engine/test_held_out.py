"""Which pictures are kept aside, that they stay so, and that they are trained on nowhere."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from training.engine.data.checks import check_set
from training.engine.data.dataset import Dataset
from training.engine.data.held_out import split
from training.engine.data.manifest import Item
from training.engine.errors import DataError
from training.engine.spec import RunSpec, TrainingSpec

from .conftest import Build, make_spec, recorded

NUMBERS = st.sets(st.integers(0, 10_000), min_size=4, max_size=60)


def items_of(numbers: Any) -> list[Item]:
    return [Item(Path(f"{n}"), f"{n:064d}", "") for n in numbers]


def held(items: list[Item], **settings: Any) -> set[str]:
    train, held_out = split(items, TrainingSpec(seed=3, **settings))
    assert {i.sha256 for i in train} | {i.sha256 for i in held_out} == {i.sha256 for i in items}
    assert not {i.sha256 for i in train} & {i.sha256 for i in held_out}
    return {item.sha256 for item in held_out}


def test_split_depends_on_content_not_on_order() -> None:
    items = items_of(range(20))
    assert len(held(items, held_out=0.1)) == 2
    assert held(items[::-1], held_out=0.1) == held(items, held_out=0.1)


def test_marked_pictures_are_held_out() -> None:
    items = [Item(Path(f"{n}"), f"{n}", "", held_out=n == 2) for n in range(4)]
    assert held(items, held_out=0.5) == {"2"}


@given(NUMBERS, st.sets(st.integers(0, 10_000), max_size=20), st.integers(1, 3))
def test_added_pictures_bring_no_trained_one_among_a_number_of_held_out_ones(
    numbers: set[int], added: set[int], count: int
) -> None:
    before = held(items_of(numbers), held_out_count=count)
    after = held(items_of(numbers | added), held_out_count=count)
    assert len(before) == len(after) == count
    assert after <= before | {f"{n:064d}" for n in added}


@given(NUMBERS, st.sets(st.integers(0, 10_000), max_size=20))
def test_added_pictures_move_none_of_a_steady_share(numbers: set[int], added: set[int]) -> None:
    before = held(items_of(numbers), held_out=0.3, held_out_steady=True)
    after = held(items_of(numbers | added), held_out=0.3, held_out_steady=True)
    old = {f"{n:064d}" for n in numbers}
    assert after & old == before or len(before) == 1, "only the one that had to be chosen may go back"
    assert before


def test_steady_share_is_about_right() -> None:
    assert len(held(items_of(range(2000)), held_out=0.2, held_out_steady=True)) == pytest.approx(400, abs=40)


@pytest.mark.parametrize(
    "settings", [{"held_out": 0.3}, {"held_out_count": 3}, {"held_out": 0.3, "held_out_steady": True}]
)
def test_content_that_is_held_out_is_trained_on_nowhere(settings: Any) -> None:
    """Each content three times, as a set has it that was gathered twice: ``held`` looks at both sides."""
    items = items_of([n for n in range(8) for _ in range(3)])
    assert 1 <= len(held(items, **settings)) < 8


def test_marked_content_is_held_out_wherever_else_it_is() -> None:
    items = [Item(Path("a"), "x", "", held_out=True), Item(Path("b"), "x", "other"), Item(Path("c"), "y", "")]
    assert held(items) == {"x"}


def test_set_of_one_content_is_trained_on_unless_a_number_is_asked_for() -> None:
    same = items_of([7] * 5)
    assert held(same, held_out=0.5) == set()
    for items, count in ((same, 1), (items_of(range(3)), 3), (items_of(range(3)), 9)):
        with pytest.raises(DataError) as caught:
            split(items, TrainingSpec(held_out_count=count))
        assert caught.value.code == "all_held_out"


def test_number_of_held_out_pictures_is_kept_in_small_sets_too() -> None:
    assert len(held(items_of(range(3)), held_out_count=2)) == 2
    assert held(items_of(range(3)), held_out=0.5) == set()


# -- a set of their own ----------------------------------------------------------------------------------------------


@pytest.fixture
def aside(tmp_path: Path, pictures: Path) -> Path:
    """Three held-out pictures, one of which is in the set too."""
    folder = tmp_path / "aside"
    folder.mkdir()
    (folder / "again.png").write_bytes((pictures / "4.png").read_bytes())
    for index in range(2):
        Image.new("RGB", (48, 48), (index, 90, 20)).save(folder / f"h{index}.png")
        (folder / f"h{index}.txt").write_text(f"kept {index}")
    return folder


@pytest.mark.parametrize("by", ["folder", "manifest"])
def test_held_out_set_of_its_own_is_measured_and_never_trained_on(
    build: Build, pictures: Path, aside: Path, by: str
) -> None:
    if by == "manifest":
        entries = [{"path": path.name} for path in sorted(aside.glob("*.png"))]
        (aside / "set.json").write_text(json.dumps({"items": entries}))
    source = {f"held_out_{by}": str(aside if by == "folder" else aside / "set.json")}
    trainer = build(
        dataset=source, training={"batch_size": 3, "steps": 6}, regularisation={"folder": str(aside)}
    )
    dataset = trainer.dataset
    assert [p.item.path.name for p in dataset.held_out] == ["again.png", "h0.png", "h1.png"]
    trained = {
        d.picture.item.path for step in range(6) for batch in trainer.computer.draws(step) for d in batch
    }
    assert trained == {pictures / f"{n}.png" for n in range(10) if n != 4}
    assert dataset.regularisation == [], "nor by the back door"
    (warning,) = recorded(trainer).of("warning")
    assert (warning.code, warning.message) == (
        "held_out_in_set", "1 pictures are in the held-out set too, e.g. '4.png'; they are not trained on.",
    )  # fmt: skip
    trainer.train()
    assert set(recorded(trainer).curve("held_out_loss")) == {0, 4, 6}


def test_held_out_set_belongs_to_what_a_checkpoint_was_trained_on(pictures: Path, aside: Path) -> None:
    def dataset(**source: str) -> Dataset:
        return Dataset(make_spec(Path("sd"), pictures, dataset=source), 8)

    before = dataset(held_out_folder=str(aside)).sha256
    (aside / "h1.png").unlink()
    assert len({dataset().sha256, before, dataset(held_out_folder=str(aside)).sha256}) == 3
    assert list(check_set(dataset())) == []


def test_empty_held_out_set_is_an_error(tmp_path: Path, pictures: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError) as caught:
        Dataset(make_spec(Path("sd"), pictures, dataset={"held_out_folder": str(tmp_path / "none")}), 8)
    assert caught.value.code == "no_held_out"


def test_every_path_of_a_file_starts_at_the_file(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(
        "name: x\nbase_model: {path: base}\ndataset: {folder: set, held_out_folder: aside}\n"
        "regularisation: {manifest: dogs.json}\ncache_dir: cache\n"
    )
    spec = RunSpec.load(tmp_path / "run.yaml")
    assert (
        spec.base_model.path, spec.dataset.folder, spec.dataset.manifest, spec.dataset.held_out_folder,
        spec.dataset.held_out_manifest, spec.regularisation.manifest, spec.regularisation.folder, spec.cache_dir,
    ) == (
        str(tmp_path / "base"), str(tmp_path / "set"), None, str(tmp_path / "aside"), None,
        str(tmp_path / "dogs.json"), None, str(tmp_path / "cache"),
    )  # fmt: skip
    assert not any(str(tmp_path) in str(value) for value in spec.recipe().values())


def test_picture_is_measured_alike_whatever_else_is_held_out(
    build: Build, pictures: Path, tmp_path: Path
) -> None:
    losses: list[dict[str, float]] = []
    for run, names in (("few", ("4", "5")), ("more", ("0", "4", "5"))):
        folder = tmp_path / f"held-{run}"
        folder.mkdir()
        for name in names:
            shutil.copy(pictures / f"{name}.png", folder)
        trainer = build(run=run, dataset={"held_out_folder": str(folder)})
        held_out = trainer.dataset.held_out
        with torch.no_grad():
            losses.append({
                picture.item.path.stem: float(trainer.computer._held_out_part([(index, 3)]))
                for index, picture in enumerate(held_out)
            })  # fmt: skip
    few, more = losses
    assert few == {name: more[name] for name in ("4", "5")}
    assert len(set(more.values())) == 3
