"""Masks: cut as their pictures are, brought to the latents, and what they do to the loss."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from training.engine.api import LoRATrainer
from training.engine.data import masks as masks_module
from training.engine.data.dataset import Dataset
from training.engine.data.manifest import Item, read_items
from training.engine.data.pictures import load_mask, load_pixels
from training.engine.data_sections import DatasetSpec
from training.engine.errors import DataError
from training.engine.noise import sample_noise

from .conftest import Build, make_spec, recorded

WIDE = (72, 48)
"""A picture of this size is scaled by 2/3 to fill the square bucket of 32 pixels, and 8 on either side are lost."""


def lopsided(width: int, height: int) -> np.ndarray:
    """Grey that no mirroring, turning or shifting brings back to itself."""
    rows, columns = np.mgrid[0:height, 0:width]
    return ((columns * 3 + rows * 2 + 60 * (columns < width // 3) * (rows < height // 2)) % 256).astype(
        np.uint8
    )


@pytest.mark.parametrize("flip", [False, True])
def test_mask_is_cut_and_mirrored_exactly_like_its_picture(tmp_path: Path, flip: bool) -> None:
    grey = lopsided(*WIDE)
    Image.fromarray(grey).convert("RGB").save(tmp_path / "a.png")
    Image.fromarray(grey).save(tmp_path / "a-mask.png")
    # At the height of the picture nothing is scaled, and the crop is exact in both.
    pixels = load_pixels(tmp_path / "a.png", 48, 48, flip=flip)
    mask = load_mask(tmp_path / "a-mask.png", 48, 48, original=WIDE, flip=flip)
    assert torch.allclose(mask, (pixels[:1] + 1) / 2, atol=1e-6)
    wanted = grey[:, ::-1] if flip else grey
    assert torch.equal(mask[0], torch.from_numpy(wanted[:, 12:60].astype(np.float32)) / 255)


def test_smaller_mask_is_scaled_to_its_picture_first(tmp_path: Path) -> None:
    half = np.zeros((24, 36), np.uint8)
    half[:, 20:] = 255
    Image.fromarray(half).save(tmp_path / "m.png")
    mask = load_mask(tmp_path / "m.png", 48, 48, original=WIDE)
    assert mask[0, :, : 40 - 12 - 1].max() == 0
    assert mask[0, :, 40 - 12 + 1 :].min() == 1


@pytest.mark.parametrize(
    ("mode", "colour", "own_alpha", "value"),
    [
        ("L", 51, False, 0.2), ("RGB", (51, 51, 51), False, 0.2), ("1", 1, False, 1.0),
        ("RGBA", (9, 9, 9, 51), False, 0.2),
        ("RGBA", (51, 51, 51, 255), False, 0.2), ("RGBA", (51, 51, 51, 255), True, 1.0), ("LA", (200, 0), True, 0.0),
        ("RGB", (51, 51, 51), True, 1.0), ("I;16", 13107, False, 0.2),
    ],
)  # fmt: skip
def test_mask_is_read_from_grey_or_transparency(
    tmp_path: Path, mode: str, colour: Any, own_alpha: bool, value: float
) -> None:
    Image.new(mode, (16, 16), colour).save(tmp_path / "m.png")
    mask = load_mask(tmp_path / "m.png", 16, 16, original=(16, 16), own_alpha=own_alpha)
    assert torch.allclose(mask, torch.full((1, 16, 16), value), atol=1 / 510)


# -- finding them ----------------------------------------------------------------------------------------------------


def test_mask_files_beside_pictures_are_found_and_not_trained_on(tmp_path: Path) -> None:
    for name in (
        "a.jpg",
        "a-mask.png",
        "b.png",
        "b-masklabel.png",
        "c.png",
        "lone-mask.png",
        "d.png",
        "d-mask.png",
    ):
        Image.new("L", (16, 16), len(name)).save(tmp_path / name)
    Image.new("L", (16, 16), 99).save(tmp_path / "d-masklabel.png")
    items = {item.path.name: item for item in read_items(DatasetSpec(folder=str(tmp_path)))}
    assert {name: item.mask and item.mask.name for name, item in items.items()} == {
        "a.jpg": "a-mask.png", "b.png": "b-masklabel.png", "c.png": None, "lone-mask.png": None, "d.png": "d-mask.png",
    }  # fmt: skip


def manifest_of(folder: Path, *entries: dict[str, Any]) -> Path:
    (folder / "set.json").write_text(json.dumps({"items": list(entries)}))
    return folder / "set.json"


def test_manifest_names_masks_relative_to_itself(tmp_path: Path) -> None:
    for name in ("a.png", "m.png"):
        Image.new("L", (16, 16)).save(tmp_path / name)
    path = manifest_of(tmp_path, {"path": "a.png", "sha256": "aa", "mask": "m.png", "mask_sha256": "bb"})
    assert read_items(DatasetSpec(manifest=str(path))) == [
        Item(tmp_path / "a.png", "aa", "", mask=tmp_path / "m.png", mask_sha256="bb")
    ]
    with pytest.raises(DataError, match=r"'gone\.png'") as caught:
        read_items(DatasetSpec(manifest=str(manifest_of(tmp_path, {"path": "a.png", "mask": "gone.png"}))))
    assert caught.value.code == "mask_missing"


def test_mask_of_another_shape_is_refused_and_rounding_is_not(tmp_path: Path) -> None:
    Image.new("RGB", (99, 65)).save(tmp_path / "a.png")
    for size, fits in (
        ((99, 65), True),
        ((50, 33), True),
        ((33, 22), True),
        ((65, 65), False),
        ((65, 99), False),
    ):
        Image.new("L", size).save(tmp_path / "a-mask.png")
        spec = make_spec(Path("sd"), tmp_path)
        if fits:
            assert Dataset(spec, 8).train[0].mask == tmp_path / "a-mask.png"
            continue
        with pytest.raises(
            DataError, match=r"'a-mask\.png' has another shape than picture 'a\.png'"
        ) as caught:
            Dataset(spec, 8)
        assert caught.value.code == "mask_shape"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("files", {"file": "file-mask.png", "both": "both-mask.png"}), ("none", {}),
        ("alpha", {"clear": "clear.png", "both": "both.png"}),
        ("any", {"file": "file-mask.png", "both": "both-mask.png", "clear": "clear.png"}),
    ],
)  # fmt: skip
def test_setting_says_where_masks_come_from(tmp_path: Path, source: str, found: dict[str, str]) -> None:
    for name, mode in (("file", "RGB"), ("clear", "RGBA"), ("both", "RGBA"), ("plain", "RGB")):
        Image.new(mode, (40, 40)).save(tmp_path / f"{name}.png")
    for name in ("file", "both"):
        Image.new("L", (40, 40)).save(tmp_path / f"{name}-mask.png")
    dataset = Dataset(make_spec(Path("sd"), tmp_path, masks={"source": source}), 8)
    assert {p.item.path.stem: p.mask.name for p in dataset.train if p.mask} == found
    assert len(dataset.train) == 4


# -- in training -----------------------------------------------------------------------------------------------------


@pytest.fixture
def masked(tmp_path: Path) -> Path:
    """Five pictures of two shapes; three have a mask, white where the picture is: one corner."""
    folder = tmp_path / "masked"
    folder.mkdir()
    for index in range(5):
        size = WIDE if index % 2 else (48, 48)
        pixels = np.stack([lopsided(*size)] * 3, -1)
        pixels[..., index % 3] //= 2
        Image.fromarray(pixels).save(folder / f"{index}.png")
        if index < 3:
            mask = np.zeros(size[::-1], np.uint8)
            mask[:20, : 14 + 4 * index] = 255
            Image.fromarray(mask).save(folder / f"{index}-mask.png")
    return folder


def masked_trainer(build: Build, folder: Path, **sections: Any) -> LoRATrainer:
    return build(pictures=folder, **{"buckets": {"aspect_limit": 1.0}, **sections})


def test_cached_mask_is_the_mean_over_each_place_of_the_latents(build: Build, masked: Path) -> None:
    trainer = masked_trainer(build, masked, training={"flip": True}, masks={"outside": 0.25})
    dataset = trainer.dataset
    for picture in dataset.train:
        shape = trainer.family.latent_shape(trainer.parts, *picture.bucket)
        factor = picture.bucket[0] // shape[-1]
        for flip in (False, True):
            mask = dataset.mask(picture, flip)
            if int(picture.item.path.stem) > 2:
                assert mask is None
                continue
            assert mask is not None
            assert picture.mask is not None
            whole = load_mask(picture.mask, *picture.bucket, original=picture.original, flip=flip)
            cells = whole.reshape(1, shape[-2], factor, shape[-1], factor).mean((2, 4))
            assert torch.allclose(mask, 0.25 + 0.75 * cells, atol=1e-6)
            assert mask.max() > 0.9
        if picture.bucket[0] == picture.original[0]:
            assert torch.equal(dataset.mask(picture), dataset.mask(picture, flip=True).flip(-1))


def test_masked_loss_is_the_weighted_mean_of_the_errors(build: Build, masked: Path) -> None:
    trainer = masked_trainer(build, masked, training={"flip": True, "steps": 9}, masks={"outside": 0.1})
    computer, family, parts, dataset = trainer.computer, trainer.family, trainer.parts, trainer.dataset
    flips = set()
    for step in range(9):
        for draw in (draw for batch in computer.draws(step) for draw in batch):
            with torch.no_grad():
                loss = float(computer.losses([draw]))
                latents = dataset.latent(draw.picture, draw.flip)[None]
                noise = sample_noise(trainer.spec.training, latents.shape[1:], draw.step, draw.index)[None]
                t = parts.process.timesteps(torch.tensor([draw.u], dtype=torch.float64))
                row = {**dataset.text_row(draw.text), **family.geometry(parts, draw.picture.view)}
                noised = parts.process.add_noise(latents, noise, t)
                prediction = family.forward(parts, noised, t, family.collate_text([row]))
            error = (prediction - parts.process.target(latents, noise, t)).square().mean((0, 1))
            mask = dataset.mask(draw.picture, draw.flip)
            weight = torch.ones_like(error) if mask is None else mask[0]
            assert loss == pytest.approx(float((error * weight).sum() / weight.sum()), rel=1e-5)
            assert mask is None or loss != pytest.approx(float(error.mean()), rel=1e-3)
            flips.add((draw.flip, mask is None))
    assert len(flips) == 4


def test_batch_may_hold_pictures_with_and_without_masks(build: Build, masked: Path) -> None:
    trainer = masked_trainer(build, masked, training={"batch_size": 5})
    (draws,) = trainer.computer.draws(0)
    with torch.no_grad():
        together = trainer.computer.losses(draws)
        alone = torch.cat([trainer.computer.losses([draw]) for draw in draws])
    assert torch.allclose(together, alone, rtol=1e-5)
    trainer.train()
    assert trainer.state.step == 6


def test_held_out_pictures_are_measured_through_their_masks(build: Build, masked: Path) -> None:
    held_out = {"path": "0.png", "held_out": True, "mask": "0-mask.png"}
    path = manifest_of(masked, held_out, *({"path": f"{n}.png"} for n in range(1, 5)))
    losses = {}
    for outside in (0.1, 1.0):
        trainer = build(
            run=str(outside), dataset={"folder": None, "manifest": str(path)}, masks={"outside": outside}
        )
        losses[outside] = trainer.computer.held_out_loss(4)
    plain = build(run="plain", dataset={"folder": None, "manifest": str(path)}, masks={"source": "none"})
    assert plain.computer.held_out_loss(4) == pytest.approx(losses[1.0], rel=1e-6)
    assert losses[0.1] != pytest.approx(losses[1.0], rel=1e-3)


def test_transparent_parts_are_left_out_where_asked(build: Build, tmp_path: Path) -> None:
    folder = tmp_path / "clear"
    folder.mkdir()
    pixels = np.full((32, 32, 4), 200, np.uint8)
    pixels[:, :8, 3], pixels[:, 8:, 3] = 255, 0
    Image.fromarray(pixels).save(folder / "a.png")
    trainer = build(pictures=folder, masks={"source": "alpha", "outside": 0.0}, training={"flip": True})
    (picture,) = trainer.dataset.train
    columns = trainer.family.latent_shape(trainer.parts, 32, 32)[-1]
    wanted = torch.zeros(1, columns, columns)
    wanted[..., : columns // 4] = 1
    assert torch.equal(trainer.dataset.mask(picture), wanted)
    assert torch.equal(trainer.dataset.mask(picture, flip=True), wanted.flip(-1))


def test_masks_are_cut_once_and_anew_when_their_file_changed(
    build: Build, masked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut: list[str] = []

    def watched(path: Path, *args: Any, **options: Any) -> torch.Tensor:
        cut.append(path.name)
        return load_mask(path, *args, **options)

    monkeypatch.setattr(masks_module, "load_mask", watched)
    build(pictures=masked, run="first")
    build(pictures=masked, run="second")
    assert sorted(cut) == ["0-mask.png", "1-mask.png", "2-mask.png"]
    Image.new("L", (48, 48), 128).save(masked / "0-mask.png")
    third = build(pictures=masked, run="third")
    assert cut[3:] == ["0-mask.png"]
    changed = next(p for p in third.dataset.train if p.item.path.name == "0.png")
    assert float(third.dataset.mask(changed).mean()) == pytest.approx(0.1 + 0.9 * 128 / 255, abs=1e-6)


def test_masks_that_leave_nothing_are_told(build: Build, masked: Path) -> None:
    Image.new("L", (48, 48)).save(masked / "2-mask.png")
    trainer = build(pictures=masked)
    (warning,) = recorded(trainer).of("warning")
    assert (warning.code, warning.message) == (
        "masks_empty", "The masks of 1 pictures leave nothing to learn, e.g. that of '2.png'.",
    )  # fmt: skip


def test_mask_belongs_to_what_a_checkpoint_was_trained_on(masked: Path) -> None:
    before = Dataset(make_spec(Path("sd"), masked), 8).sha256
    Image.new("L", (48, 48), 7).save(masked / "2-mask.png")
    assert Dataset(make_spec(Path("sd"), masked), 8).sha256 != before
