"""What of a picture is seen: mirrored or not, where it is cropped, and that the model is told the truth about it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from training.engine.data.cache import content_key
from training.engine.data.dataset import Dataset
from training.engine.data.encoding import Shot
from training.engine.data.manifest import Item, read_items
from training.engine.data.pictures import load_mask, load_pixels
from training.engine.data.placement import CENTRE, Picture
from training.engine.data_sections import DatasetSpec
from training.engine.errors import DataError

from .conftest import Build, make_spec


def uneven(width: int, height: int) -> np.ndarray:
    """Noise: no two places of it are alike."""
    return np.random.default_rng(width).integers(0, 256, (height, width, 3)).astype(np.uint8)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("size", "axis"), [((60, 32), 1), ((32, 57), 0)])
def test_crop_is_where_the_view_says_in_the_mirrored_picture(
    tmp_path: Path, flip: bool, size: tuple[int, int], axis: int
) -> None:
    """Nothing is scaled here, so the crop can be compared to the pixel."""
    pixels = uneven(*size)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(pixels[..., 0]).save(tmp_path / "m.png")
    picture = Picture(Item(tmp_path / "a.png", "aa", ""), size, (32, 32))
    seen = pixels[:, ::-1] if flip else pixels
    for crop in (0.0, 0.25, 1 / 3, 1.0):
        shot = Shot(picture, flip, crop)
        left, top = picture.view_at(crop).crop
        assert (left, top)[1 - axis] == int((size[1 - axis] - 32) * crop)
        wanted = seen[top : top + 32, left : left + 32].astype(np.float32) / 127.5 - 1.0
        found = load_pixels(picture.item.path, 32, 32, flip=flip, corner=shot.corner)
        assert torch.equal(found, torch.from_numpy(wanted).permute(2, 0, 1))
        mask = load_mask(tmp_path / "m.png", 32, 32, original=size, flip=flip, corner=shot.corner)
        assert torch.allclose(mask[0], (found[0] + 1) / 2, atol=1e-6)


@given(
    st.integers(20, 400),
    st.integers(20, 400),
    st.sampled_from([(32, 32), (40, 24), (24, 40)]),
    st.floats(0, 1),
)
def test_every_crop_lies_within_its_picture(
    width: int, height: int, bucket: tuple[int, int], crop: float
) -> None:
    picture = Picture(Item(Path("a"), "aa", ""), (width, height), bucket)
    scale = max(bucket[0] / width, bucket[1] / height)
    left, top = picture.view_at(crop).crop
    assert 0 <= left <= max(0, round(width * scale) - bucket[0])
    assert 0 <= top <= max(0, round(height * scale) - bucket[1])
    assert min(picture.slack) == 0, "one side fits its bucket"
    assert picture.view == picture.view_at(CENTRE)


@pytest.mark.parametrize(("width", "height"), [(101, 67), (67, 101), (1001, 333), (33, 32), (31, 97)])
def test_last_corner_of_a_scaled_picture_is_not_beyond_it(tmp_path: Path, width: int, height: int) -> None:
    Image.fromarray(uneven(width, height)).save(tmp_path / "a.png")
    picture = Picture(Item(tmp_path / "a.png", "aa", ""), (width, height), (32, 32))
    corners = [
        load_pixels(picture.item.path, 32, 32, corner=Shot(picture, False, c).corner) for c in (0.0, 1.0)
    ]
    assert corners[0].shape == corners[1].shape == (3, 32, 32)
    assert not torch.equal(*corners)


def test_crops_of_a_picture_that_fits_are_one(pictures: Path) -> None:
    dataset = Dataset(make_spec(Path("sd"), pictures, training={"crop": "random", "crop_variants": 5}), 8)
    assert dataset.crops == [0.0, 0.25, 0.5, 0.75, 1.0]
    keys = Counter(
        (shot.picture.original, shot.picture.bucket)
        for shot in {s.key: s for s in dataset.all_shots()}.values()
    )
    # 48 x 48 fits its bucket whole, 72 x 48 has two pixels too many at the scale of 40 x 24: 0, 0, 1, 1 and 2.
    assert keys == {((48, 48), (32, 32)): 6, ((72, 48), (40, 24)): 4 * 4}


def test_key_of_a_centred_crop_is_the_one_it_always_had() -> None:
    picture = Picture(Item(Path("a"), "aa", ""), (60, 32), (32, 32))
    assert Shot(picture, True).key == content_key("aa", 32, 32, "fit-centre", True)
    assert len({Shot(picture, flip, crop).key for flip in (False, True) for crop in (0.0, 0.5, 1.0)}) == 6


# -- in training -----------------------------------------------------------------------------------------------------


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    """Six pictures of the height of their bucket and twice its width; three of them may not be mirrored."""
    folder = tmp_path / "wide"
    folder.mkdir()
    entries: list[dict[str, Any]] = []
    for index in range(6):
        Image.fromarray(uneven(60 + index, 32)).save(folder / f"{index}.png")
        entries.append(
            {"path": f"{index}.png", "caption": f"n{index}", **({"flip": False} if index < 3 else {})}
        )
    (folder / "set.json").write_text(json.dumps({"items": entries}))
    return folder / "set.json"


RANDOM = {"crop": "random", "crop_variants": 3, "flip": True, "steps": 40, "batch_size": 3}
SQUARES = {"aspect_limit": 1.0}


@pytest.mark.parametrize("family", ["sdxl", "sd"])
def test_latents_and_told_view_are_those_of_the_drawn_crop(build: Build, wide: Path, family: str) -> None:
    trainer = build(family, dataset={"folder": None, "manifest": str(wide)}, training=RANDOM, buckets=SQUARES)
    again = build(
        family, run="again", dataset={"folder": None, "manifest": str(wide)}, training=RANDOM, buckets=SQUARES
    )
    seen: set[tuple[str, bool, float]] = set()
    for step in range(90):
        (draws,) = trainer.computer.draws(step)
        assert draws == again.computer.draws(step)[0]
        for draw in draws:
            key = (draw.picture.item.caption, draw.flip, draw.crop)
            if key in seen:
                continue
            seen.add(key)
            pixels = np.asarray(Image.open(draw.picture.item.path))
            pixels = pixels[:, ::-1] if draw.flip else pixels
            (left, top), width = draw.view.crop, pixels.shape[1]
            assert top == 0
            assert draw.crop == CENTRE or left == int((width - 32) * draw.crop)
            cut = torch.from_numpy(pixels[:, left : left + 32].astype(np.float32) / 127.5 - 1).permute(
                2, 0, 1
            )
            latent = trainer.dataset.latent(draw.picture, draw.flip, draw.crop)
            with torch.no_grad():
                fresh = trainer.family.encode_image(trainer.parts, cut[None])[0]
            # The centre of an odd number of pixels lies between two of them.
            if draw.crop != CENTRE or width % 2 == 0:
                assert torch.allclose(latent, fresh, atol=1e-4)
            told = trainer.computer._text([(draw.text, draw.view)])
            if family == "sdxl":
                assert told["time_ids"].tolist() == [[32, width, 0, left, 32, 32]]
    assert seen == {
        (f"n{index}", flip, crop) for index in range(6) for flip in (False, True) for crop in (0.0, 0.5, 1.0)
        if not flip or index >= 3
    }  # fmt: skip


def test_random_crops_are_encoded_before_the_first_step(
    build: Build, wide: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = build(dataset={"folder": None, "manifest": str(wide)}, training=RANDOM, buckets=SQUARES)
    monkeypatch.setattr(type(trainer.family), "encode_image", lambda *a: pytest.fail("encoded in training"))
    trainer.train()
    assert trainer.state.step == 40


def test_manifest_may_forbid_mirroring_and_nothing_else_than_that(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    path = tmp_path / "set.json"
    for flip, wanted in ((False, False), (True, True), ("no", None)):
        path.write_text(json.dumps({"items": [{"path": "a.png", "flip": flip}]}))
        if wanted is None:
            with pytest.raises(DataError, match="flip must be true or false"):
                read_items(DatasetSpec(manifest=str(path)))
        else:
            assert read_items(DatasetSpec(manifest=str(path)))[0].flip is wanted
