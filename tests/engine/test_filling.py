"""Batches short of pictures: how they are filled, and what each picture then counts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from training.engine.api import LoRATrainer
from training.engine.data.manifest import read_items
from training.engine.data_sections import DatasetSpec

from .conftest import Build


def step_loss(trainer: LoRATrainer, step: int) -> float:
    trainer.optimizer.zero_grad()
    return float(trainer.computer.backward(step, 4))


def test_filled_batch_counts_each_picture_once(build: Build) -> None:
    """Four wide pictures and six square ones, three at a time: the wide one left over is shown three times."""
    trainer = build(
        training={"batch_size": 3, "gradient_accumulation": 4, "steps": 2}, buckets={"fill": True}
    )
    assert trainer.dataset.bucket_samples == {"32x32": 6, "40x24": 4}
    (left_over,) = [batch for batch in trainer.computer.draws(0) if len({d.picture for d in batch}) == 1]
    assert [(draw.share, draw.picture) for draw in left_over] == [(1 / 3, left_over[0].picture)] * 3
    assert len({draw.u for draw in left_over}) == 3
    draws = [draw for batch in trainer.computer.draws(0) for draw in batch]
    assert len(draws) == 12
    plain = {}
    with torch.no_grad():
        for draw in draws:
            plain[draw.index] = float(trainer.computer.losses([draw])) / draw.share
    thrice = {draw.index for draw in left_over}
    mean = (
        sum(loss for index, loss in plain.items() if index not in thrice)
        + sum(plain[index] for index in thrice) / 3
    ) / 10
    assert step_loss(trainer, 0) == pytest.approx(mean, rel=1e-5)


def test_set_smaller_than_a_batch_is_shown_evenly(build: Build, tmp_path: Path) -> None:
    folder = tmp_path / "few"
    folder.mkdir()
    for index in range(3):
        Image.new("RGB", (40, 40), (80 * index, 0, 0)).save(folder / f"{index}.png")
    trainer = build(pictures=folder, training={"batch_size": 4}, buckets={"fill": True})
    for step in range(3):
        (batch,) = trainer.computer.draws(step)
        assert sorted(draw.share for draw in batch) == [0.5, 0.5, 1.0, 1.0]
        weights = dict.fromkeys(range(3), 0.0)
        for draw in batch:
            weights[int(draw.picture.item.path.stem)] += draw.share
        assert weights == {0: 1.0, 1: 1.0, 2: 1.0}
    assert step_loss(trainer, 0) > 0


def test_filling_changes_neither_the_order_nor_what_the_first_of_a_batch_sees(build: Build) -> None:
    """Only the numbers of later samples of a step move on; a step of one batch begins as it did."""
    short = build(run="short", training={"batch_size": 3})
    whole = build(run="whole", training={"batch_size": 3}, buckets={"fill": True})
    for step in range(8):
        (few,), (all_,) = short.computer.draws(step), whole.computer.draws(step)
        assert [(d.picture, d.text, d.u) for d in all_[: len(few)]] == [(d.picture, d.text, d.u) for d in few]
    assert whole.dataset.plan == short.dataset.plan


def test_folder_name_says_how_often_its_pictures_are_seen(tmp_path: Path) -> None:
    for place in (
        "10_plates/a.png",
        "10_plates/deep/b.png",
        "10_plates/2_bowls/c.png",
        "jugs/d.png",
        "0_no/e.png",
    ):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / place)

    def repeats(folder: str, **settings: object) -> dict[str, int]:
        items = read_items(DatasetSpec(folder=str(tmp_path / folder), **settings))  # type: ignore[arg-type]
        return {item.path.stem: item.repeats for item in items}

    assert repeats(".", folder_repeats=True) == {"a": 10, "b": 10, "c": 2, "d": 1, "e": 1}
    assert repeats(".", folder_repeats=True, repeats=3) == {"a": 30, "b": 30, "c": 6, "d": 3, "e": 3}
    assert repeats("10_plates", folder_repeats=True) == {"a": 10, "b": 10, "c": 2}
    assert repeats(".") == {"a": 1, "b": 1, "c": 1, "d": 1, "e": 1}
