"""The three figures: what they say of pictures made for the purpose."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from training.engine.evaluate import style_distance, style_vector

from .conftest import Build, recorded


def plates(
    colour: tuple[int, int, int], count: int = 4, noise: int = 12, size: int = 64
) -> list[Image.Image]:
    rng = np.random.default_rng(1)
    return [
        Image.fromarray(
            np.clip(np.array(colour) + rng.integers(-noise, noise + 1, (size, size, 3)), 0, 255).astype("u1")
        )
        for _ in range(count)
    ]


def test_style_distance_orders_pictures_by_their_likeness() -> None:
    wanted = plates((200, 40, 40))
    same, near, far = (
        style_distance(plates(c), wanted) for c in ((200, 40, 40), (170, 60, 60), (20, 200, 220))
    )
    assert same < 0.05
    assert same < near < far


def test_style_does_not_depend_on_the_size_of_the_picture() -> None:
    small = plates((90, 120, 30), 1, noise=0)[0]
    assert style_vector(small) == pytest.approx(style_vector(small.resize((256, 256))), abs=1e-9)


def test_figures_are_given_for_both_sides_on_the_same_seeds(build: Build) -> None:
    trainer = build(
        sampling={"prompts": ["a red plate", "a blue plate"], "steps": 2},
        training={"held_out": 0.2, "steps": 4},
    )
    trainer.train()
    trainer.evaluate()
    (told,) = recorded(trainer).of("evaluation")
    assert told.images == 2
    assert told.held_out_loss["base"] != told.held_out_loss["lora"]
    assert told.held_out_loss["lora"] == pytest.approx(recorded(trainer).curve("held_out_loss")[4], rel=1e-4)
    assert told.held_out_loss["base"] == pytest.approx(recorded(trainer).curve("held_out_loss")[0], rel=1e-4)
    assert set(told.style_distance) == {"base", "lora"}
    assert all(0.0 <= value <= 1.0 for value in told.content_score.values())


def test_figures_without_material_are_none(build: Build) -> None:
    trainer = build(training={"steps": 2})
    trainer.train()
    trainer.evaluate()
    (told,) = recorded(trainer).of("evaluation")
    assert (told.held_out_loss, told.style_distance, told.content_score, told.images) == (None, None, None, 0)


def test_samples_with_the_adapter_off_are_the_base_models(build: Build) -> None:
    trainer = build(
        sampling={"prompts": ["a"], "steps": 2, "seed": 5, "count": 2}, training={"learning_rate": 0.1}
    )
    trainer.draw(0, lora=False)
    before = [path.read_bytes() for path in trainer.sample_files(0)]
    trainer.train()
    trainer.draw(0, lora=False)
    assert [path.read_bytes() for path in trainer.sample_files(0)] == before
    assert [path.read_bytes() for path in trainer.sample_files(6)] != before
    assert before[0] != before[1]
    assert {(e.seed, e.prompt_index) for e in recorded(trainer).of("sample")} == {(5, 0), (6, 0)}
