"""The three figures: what they say of pictures made for the purpose."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from training.engine.evaluate import content_score, style_distance, style_vector

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


def drawings() -> list[Image.Image]:
    """Four shapes in colour on white."""
    images = []
    for number in range(4):
        image = Image.new("RGB", (64, 64), "white")
        pen = ImageDraw.Draw(image)
        box = (8, 8, 40, 40) if number % 2 else (20, 24, 58, 58)
        if number < 2:
            pen.ellipse(box, fill=(220, 120, 40))
        else:
            pen.polygon(
                [(box[0], box[3]), (box[2], box[3]), ((box[0] + box[2]) // 2, box[1])], fill=(60, 90, 200)
            )
        images.append(image)
    return images


def test_content_is_found_in_another_style_and_not_in_noise() -> None:
    prompts = ["a", "b", "c", "d"]
    plain = drawings()
    inverted = [ImageOps.invert(ImageOps.grayscale(image)).convert("RGB") for image in plain]
    assert content_score(plain, plain, prompts) == 1.0
    assert content_score(inverted, plain, prompts) == 1.0
    assert content_score(inverted[::-1], plain, prompts) == 0.0
    rng = np.random.default_rng(0)
    noise = [Image.fromarray(rng.integers(0, 255, (64, 64, 3)).astype("u1")) for _ in range(40)]
    assert content_score(noise, plain * 10, prompts * 10) == 0.0


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
    assert told.content_score["base"] == 1.0
    assert 0.0 <= told.content_score["lora"] <= 1.0


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
