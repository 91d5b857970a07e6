"""Shapes: which buckets there are, which of them a picture belongs to, and what an epoch is made of."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from training.engine.data.buckets import Buckets, Size, bucket_sizes, choose_bucket, enlargement
from training.engine.data.checks import check_set
from training.engine.data.dataset import Dataset
from training.engine.data.pictures import load_pixels
from training.engine.data_sections import BucketSpec

from .conftest import Build, make_spec, recorded

SIDES = st.integers(16, 3000)


def save_picture(path: Path, width: int, height: int) -> None:
    """Save a picture that no other one resembles, nor its own mirror image."""
    pixels = np.random.default_rng(width * height).integers(0, 255, (height, width, 3))
    Image.fromarray(pixels.astype(np.uint8)).save(path)


@given(st.tuples(SIDES, SIDES), st.sampled_from([1.0, 1.5, 4.0]), st.sampled_from([8, 16]))
def test_picture_has_one_place_for_each_resolution_it_is_large_enough_for(
    size: Size, most: float, divisor: int
) -> None:
    resolutions = (1024, 768, 512)
    places = Buckets(resolutions, divisor, BucketSpec(enlarge=most)).places(size)
    nearest = [choose_bucket(size, bucket_sizes(each, divisor)) for each in resolutions]
    fitting = [bucket for bucket in nearest if enlargement(size, bucket) <= most]
    assert places == (fitting or nearest[-1:])


@given(st.tuples(SIDES, SIDES))
def test_small_picture_in_its_own_size_is_not_enlarged_and_keeps_its_shape(size: Size) -> None:
    limits = BucketSpec(enlarge=1.0, small_pictures="own_size")
    (bucket, *others) = Buckets((1024, 512), 8, limits).places(size)
    nearest = choose_bucket(size, bucket_sizes(512, 8))
    if enlargement(size, nearest) <= 1.0:
        assert bucket in (nearest, choose_bucket(size, bucket_sizes(1024, 8)))
        return
    assert not others
    assert bucket[0] % 8 == bucket[1] % 8 == 0
    assert enlargement(size, bucket) <= 1.0 or min(bucket) == 8
    for side, wanted in zip(bucket, nearest, strict=True):
        assert side > wanted / enlargement(size, nearest) - 64


@pytest.mark.parametrize(
    ("size", "limits", "places"),
    [
        ((2000, 2000), BucketSpec(), [(1024, 1024), (512, 512)]),
        ((700, 700), BucketSpec(), [(1024, 1024), (512, 512)]),
        ((700, 700), BucketSpec(enlarge=1.25), [(512, 512)]),
        ((300, 300), BucketSpec(), [(512, 512)]),
        ((300, 330), BucketSpec(small_pictures="own_size"), [(256, 256)]),
        ((300, 330), BucketSpec(small_pictures="own_size", smallest_side=512), [(512, 512)]),
        ((3000, 1000), BucketSpec(aspect_limit=1.0), [(1024, 1024), (512, 512)]),
        ((3000, 1000), BucketSpec(largest_side=1280), [(1280, 768), (768, 320)]),
        ((3000, 1000), BucketSpec(largest_side=1280, smallest_side=384), [(1280, 768), (640, 384)]),
        ((3000, 1000), BucketSpec(step=32), [(1728, 576), (864, 288)]),
    ],
)
def test_limits_decide_the_places_of_a_picture(size: Size, limits: BucketSpec, places: list[Size]) -> None:
    assert Buckets((1024, 512), 32, limits).places(size) == places


@given(
    st.sampled_from([256, 512, 1024]), st.sampled_from([None, 32, 64]), st.sampled_from([1.0, 2.0, 3.0, 9.0])
)
def test_no_bucket_breaks_its_limits(resolution: int, step: int | None, aspect: float) -> None:
    limits = BucketSpec(step=step, aspect_limit=aspect, smallest_side=192, largest_side=2 * resolution)
    sizes = bucket_sizes(resolution, 16, limits)
    assert (resolution, resolution) in sizes
    for width, height in sizes:
        assert width * height <= resolution * resolution
        assert min(width, height) >= 192
        assert max(width, height) <= min(2 * resolution, aspect * min(width, height))
        assert step is None or width % step == height % step == 0


def test_longer_shapes_are_had_for_the_asking() -> None:
    long = bucket_sizes(512, 64, BucketSpec(aspect_limit=9.0))
    assert max(width / height for width, height in long) == 1344 / 192


@pytest.fixture
def sizes(tmp_path: Path) -> Path:
    """Pictures large enough for 96, for 64 and for 32 pixels, in several shapes."""
    folder = tmp_path / "sizes"
    folder.mkdir()
    for name, size in {
        "large": (200, 210), "wide": (300, 150), "middle": (70, 71), "high": (50, 100), "small": (33, 30),
    }.items():  # fmt: skip
        save_picture(folder / f"{name}.png", *size)
        (folder / f"{name}.txt").write_text(name)
    return folder


SEVERAL = {"resolution": 96, "resolutions": [32, 64], "batch_size": 2, "steps": None, "epochs": 3}


def test_epoch_shows_each_picture_once_at_each_of_its_resolutions(sizes: Path) -> None:
    spec = make_spec(Path("sd"), sizes, training=SEVERAL, buckets={"enlarge": 1.0}, dataset={"repeats": 2})
    dataset = Dataset(spec, 8)
    for epoch in range(3):
        seen = Counter(
            (dataset.train[index].item.caption, dataset.train[index].bucket)
            for batch in dataset.sampler.epoch(epoch)
            for index in batch
        )
        assert seen == {
            ("large", (96, 96)): 2, ("large", (64, 64)): 2, ("large", (32, 32)): 2,
            ("wide", (136, 64)): 2, ("wide", (88, 40)): 2, ("wide", (40, 24)): 2,
            ("middle", (64, 64)): 2, ("middle", (32, 32)): 2,
            ("high", (40, 88)): 2, ("high", (24, 40)): 2,
            ("small", (32, 32)): 2,
        }  # fmt: skip
        for batch in dataset.sampler.epoch(epoch):
            assert len({dataset.train[index].bucket for index in batch}) == 1
    assert dataset.plan.total_steps == 3 * len(dataset.sampler.epoch(0))
    assert [picture.item.caption for picture in dataset.pictures] == [
        "high",
        "large",
        "middle",
        "small",
        "wide",
    ]
    assert [warning.message for warning in check_set(dataset)] == [
        "1 pictures are much smaller than the training resolution, e.g. 'small.png'."
    ]


def test_several_resolutions_are_trained_each_in_its_own_shape(build: Build, sizes: Path) -> None:
    trainer = build(pictures=sizes, training={**SEVERAL, "held_out": 0.2})
    family, dataset = trainer.family, trainer.dataset
    assert len(dataset.held_out) == 1
    shapes = set()
    for step in range(dataset.plan.steps_per_epoch):
        for batch in trainer.computer.draws(step):
            for draw in batch:
                latent = dataset.latent(draw.picture)
                assert tuple(latent.shape) == family.latent_shape(trainer.parts, *draw.picture.bucket)
                pixels = load_pixels(draw.picture.item.path, *draw.picture.bucket)[None]
                assert torch.allclose(latent, family.encode_image(trainer.parts, pixels)[0], atol=1e-5)
                shapes.add(latent.shape)
    assert len(shapes) >= 6
    trainer.train()
    (plan,) = recorded(trainer).of("plan")
    assert (plan.images, sum(plan.buckets.values())) == (4, len(dataset.train))
    assert trainer.state.step == dataset.plan.total_steps
