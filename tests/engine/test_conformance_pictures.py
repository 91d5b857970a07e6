"""What every model family must satisfy with all settings of pictures and captions at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from training.engine.families.base import ModelFamily

from .conformance import perturb
from .conftest import Build, assert_equal, recorded, weights


@pytest.fixture
def rich(tmp_path: Path) -> dict[str, Any]:
    """A recipe that leaves nothing out, with seven pictures of three shapes, some masked, and four of their class."""
    taught, others = tmp_path / "taught", tmp_path / "others"
    for folder, count in ((taught, 7), (others, 4)):
        folder.mkdir()
        for index in range(count):
            size = ((96, 64), (64, 64), (50, 40))[index % 3]
            pixels = np.random.default_rng(index + count).integers(0, 255, (size[1], size[0], 3))
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}.png")
            (folder / f"{index}.txt").write_text(
                f"n{index}, red, plain, old\nm{index}, ||| dull, round, flat"
            )
    for index in (0, 1, 2):
        mask = np.zeros((64, 96) if index == 0 else (64, 64) if index == 1 else (40, 50), np.uint8)
        mask[: 20 + 5 * index, :30] = 255
        Image.fromarray(mask).save(taught / f"{index}-mask.png")
    return {
        "dataset": {"folder": str(taught), "caption_per_line": True},
        "regularisation": {"folder": str(others), "ratio": 0.5, "weight": 0.5},
        "captions": {"style": "auto", "shuffle_tags": True, "tag_dropout": 0.3},
        "masks": {"outside": 0.2}, "buckets": {"fill": True},
        "training": {
            "resolution": 64, "resolutions": [32], "batch_size": 3, "steps": 4, "learning_rate": 3e-3, "flip": True,
            "crop": "random", "caption_dropout": 0.2, "held_out_count": 1,
        },
        "checkpoint": {"every_steps": 2, "every_minutes": None},
    }  # fmt: skip


def test_run_with_every_setting_is_resumed_bit_for_bit_and_encodes_nothing(
    family: ModelFamily, build: Build, rich: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = build(family.name, run="whole", **rich)
    assert whole.train()
    saved = tmp_path / "whole" / "checkpoints" / "step-00000002"
    again = build(family.name, run="again", resume_from=saved, **rich)
    assert again.state.step == 2
    for name in ("encode_image", "encode_text"):
        monkeypatch.setattr(type(family), name, lambda *a: pytest.fail("encoded in training"))
    again.train()
    assert_equal(weights(whole), weights(again))
    assert recorded(again).curve("loss") == {k: v for k, v in recorded(whole).curve("loss").items() if k > 2}
    assert recorded(again).curve("held_out_loss")[4] == recorded(whole).curve("held_out_loss")[4]


def test_filled_and_weighted_batches_add_up_in_any_parts(
    family: ModelFamily, build: Build, rich: dict[str, Any]
) -> None:
    rich["training"]["batch_size"] = 5
    trainer = build(family.name, **rich)
    perturb(trainer)
    steps = {
        step: [draw for batch in trainer.computer.draws(step) for draw in batch]
        for step in range(trainer.dataset.plan.steps_per_epoch)
    }
    every = [draw for draws in steps.values() for draw in draws]
    assert {draw.picture.kind for draw in every} == {"train", "regularisation"}
    assert any(trainer.dataset.mask(draw.picture, draw.flip, draw.crop) is not None for draw in every)
    filled = next(step for step, draws in steps.items() if any(draw.share < 1.0 for draw in draws))
    for step in (0, filled):
        found = []
        for micro_batch in (5, 2):
            trainer.optimizer.zero_grad()
            loss = trainer.computer.backward(step, micro_batch)
            gradients = [p.grad for p in trainer.optimizer.parameters if p.grad is not None]
            found.append((loss, torch.cat([gradient.flatten() for gradient in gradients])))
        (one, whole), (other, parts) = found
        assert torch.allclose(one, other, rtol=1e-5)
        assert float((whole - parts).abs().max()) < 1e-5 * max(1.0, float(whole.abs().max()))
