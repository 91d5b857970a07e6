"""The three figures: what they say of pictures made for the purpose."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from training.engine import evaluate
from training.engine.data.pictures import load_image, load_small
from training.engine.evaluate import content_score, shape_maps, style_distance, style_vector, style_vectors

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
    wanted = style_vectors(plates((200, 40, 40)))
    same, near, far = (
        style_distance(style_vectors(plates(c)), wanted)
        for c in ((200, 40, 40), (170, 60, 60), (20, 200, 220))
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
    plain = shape_maps(drawings())
    inverted = shape_maps(ImageOps.invert(ImageOps.grayscale(image)).convert("RGB") for image in drawings())
    assert content_score(plain, plain, prompts) == 1.0
    assert content_score(inverted, plain, prompts) == 1.0
    assert content_score(inverted[::-1], plain, prompts) == 0.0
    rng = np.random.default_rng(0)
    noise = shape_maps(Image.fromarray(rng.integers(0, 255, (64, 64, 3)).astype("u1")) for _ in range(40))
    assert content_score(noise, np.tile(plain, (10, 1)), prompts * 10) == 0.0


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_large_picture_scaled_down_shows_the_same_style(tmp_path: Path, suffix: str) -> None:
    large = drawings()[1].resize((1500, 1000), Image.Resampling.BICUBIC)
    large.save(tmp_path / f"a.{suffix}")
    small = load_small(tmp_path / f"a.{suffix}", 64)
    assert 64 <= min(small.size) < 256
    whole = style_vector(load_image(tmp_path / f"a.{suffix}"))
    assert style_vector(small) == pytest.approx(whole, abs=0.02)


def test_set_is_judged_one_picture_at_a_time(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[weakref.ref[Image.Image]] = []
    most = 0

    def watched(path: Path, edge: int) -> Image.Image:
        nonlocal most
        image = load_small(path, edge)
        opened.append(weakref.ref(image))
        most = max(most, sum(each() is not None for each in opened))
        return image

    monkeypatch.setattr(evaluate, "load_small", watched)
    trainer = build(sampling={"prompts": ["a", "b"], "steps": 2}, training={"steps": 2})
    trainer.train()
    trainer.evaluate()
    assert len(opened) == 10 + 2 * 2 + 2 * 2
    assert most <= 2


def test_figure_that_fails_is_a_warning_and_the_run_ends_well(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any) -> None:
        raise MemoryError("3.6 GB")

    monkeypatch.setattr(evaluate, "_style", broken)
    trainer = build(sampling={"prompts": ["a", "b"], "steps": 2}, training={"steps": 2, "held_out": 0.2})
    path = trainer.run()
    told = recorded(trainer)
    assert [(w.code, w.message) for w in told.of("warning")] == [
        ("evaluation_failed", "style_distance could not be computed: 3.6 GB.")
    ]
    (figures,) = told.of("evaluation")
    assert figures.style_distance is None
    assert figures.held_out_loss is not None
    assert figures.content_score is not None
    assert [event.path for event in told.of("export")] == [f"exports/{path.name}"]
    assert told.events[-1].type == "done"


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
    before = [path.read_bytes() for path in trainer.gallery.files(0)]
    trainer.train()
    trainer.draw(0, lora=False)
    assert [path.read_bytes() for path in trainer.gallery.files(0)] == before
    assert [path.read_bytes() for path in trainer.gallery.files(6)] != before
    assert before[0] != before[1]
    assert {(e.seed, e.prompt_index) for e in recorded(trainer).of("sample")} == {(5, 0), (6, 0)}


def test_figures_survive_a_death_after_the_last_checkpoint(build: Build, tmp_path: Path) -> None:
    recipe: dict[str, Any] = {
        "sampling": {"prompts": ["a", "b"], "steps": 2},
        "training": {"held_out": 0.2},
    }
    whole = build(run="whole", **recipe)
    whole.run()
    for path in whole.gallery.files(6):
        path.unlink()
    again = build(run="whole", resume_from=tmp_path / "whole" / "checkpoints", **recipe)
    assert again.state.step == 6
    again.run()
    assert recorded(again).of("evaluation") == recorded(whole).of("evaluation")
    assert [event.step for event in recorded(again).of("sample")] == [6, 6]
