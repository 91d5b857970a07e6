"""Pictures and captions: reading, buckets, order, caches."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from training.engine.data.buckets import bucket_sizes, choose_bucket
from training.engine.data.cache import content_key
from training.engine.data.captions import caption_text
from training.engine.data.clips import is_clip
from training.engine.data.manifest import Item, read_items
from training.engine.data.pictures import load_pixels, read_size
from training.engine.data.sampler import Sampler, filled
from training.engine.errors import DataError
from training.engine.spec import CaptionSpec, DatasetSpec, RunSpec

from .conftest import Build

# -- order -----------------------------------------------------------------------------------------------------------

BUCKETS = st.dictionaries(st.sampled_from("abcd"), st.integers(1, 30), min_size=1)


def sampler_of(
    sizes: dict[str, int], batch: int, accumulation: int, seed: int, fill: bool = False
) -> Sampler:
    buckets, start = {}, 0
    for name, size in sizes.items():
        buckets[name] = list(range(start, start + size))
        start += size
    return Sampler(buckets, batch_size=batch, gradient_accumulation=accumulation, seed=seed, fill=fill)


@given(BUCKETS, st.integers(1, 9), st.integers(1, 4), st.integers(0, 99), st.integers(0, 5))
def test_each_epoch_shows_every_picture_once(
    sizes: dict[str, int], batch: int, accumulation: int, seed: int, epoch: int
) -> None:
    sampler = sampler_of(sizes, batch, accumulation, seed)
    steps = [sampler.step(epoch * sampler.steps_per_epoch + p) for p in range(sampler.steps_per_epoch)]
    seen = Counter(index for step in steps for members in step for index in members)
    total = sum(sizes.values())
    assert set(seen) == set(range(total))
    if total >= batch or len(sizes) > 1:
        assert set(seen.values()) == {1}
    else:
        assert sum(seen.values()) == batch
        assert max(seen.values()) - min(seen.values()) <= 1


@given(BUCKETS, st.integers(1, 9), st.integers(1, 4), st.integers(0, 99))
def test_a_batch_is_of_one_bucket_and_a_step_of_no_more_than_asked(
    sizes: dict[str, int], batch: int, accumulation: int, seed: int
) -> None:
    sampler = sampler_of(sizes, batch, accumulation, seed)
    borders = np.cumsum(list(sizes.values()))
    for step in range(sampler.steps_per_epoch):
        batches = sampler.step(step)
        assert 1 <= len(batches) <= accumulation
        for members in batches:
            assert 1 <= len(members) <= batch
            assert len({int(np.searchsorted(borders, index, side="right")) for index in members}) == 1


@given(BUCKETS, st.integers(1, 9), st.integers(0, 99), st.integers(0, 40))
def test_order_depends_on_seed_and_step_alone(
    sizes: dict[str, int], batch: int, seed: int, step: int
) -> None:
    one, two = sampler_of(sizes, batch, 1, seed), sampler_of(sizes, batch, 1, seed)
    for earlier in range(step):
        one.step(earlier)
    assert one.step(step) == two.step(step)


@given(BUCKETS, st.integers(1, 9), st.integers(1, 4))
def test_sampler_and_plan_agree_on_the_length_of_an_epoch(
    sizes: dict[str, int], batch: int, accumulation: int
) -> None:
    spec = RunSpec.from_dict({
        "name": "x", "base_model": {"path": "b"}, "dataset": {"folder": "d"},
        "training": {"batch_size": batch, "gradient_accumulation": accumulation},
    })  # fmt: skip
    assert (
        sampler_of(sizes, batch, accumulation, 0).steps_per_epoch == spec.plan(sizes.values()).steps_per_epoch
    )


@given(BUCKETS, st.integers(1, 9), st.integers(0, 5))
def test_epoch_of_filled_batches_has_each_picture_once_before_they_are_filled(
    sizes: dict[str, int], batch: int, epoch: int
) -> None:
    seen = Counter(
        index for members in sampler_of(sizes, batch, 1, 0, fill=True).epoch(epoch) for index in members
    )
    assert seen == dict.fromkeys(range(sum(sizes.values())), 1)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=9), st.integers(1, 20))
def test_filled_batch_is_whole_and_no_picture_in_it_counts_double(members: list[int], size: int) -> None:
    slots = filled(tuple(members), size)
    assert len(slots) == max(size, len(members))
    assert [member for member, _ in slots[: len(members)]] == members
    shown, counted = Counter(m for m, _ in slots), Counter(members)
    for member, times in counted.items():
        assert sum(share for m, share in slots if m == member) == pytest.approx(times)
        assert abs(shown[member] / times - len(slots) / len(members)) < 1


def test_epochs_differ() -> None:
    sampler = sampler_of({"a": 16}, 4, 1, 0)
    assert len({tuple(sampler.epoch(epoch)) for epoch in range(5)}) == 5


# -- buckets ---------------------------------------------------------------------------------------------------------


@given(st.sampled_from([32, 64, 256, 512, 768, 1024]), st.sampled_from([8, 16, 32]))
def test_buckets_have_whole_multiples_and_never_more_area(resolution: int, divisor: int) -> None:
    sizes = bucket_sizes(resolution, divisor)
    assert (resolution, resolution) in sizes
    for width, height in sizes:
        assert width % divisor == height % divisor == 0
        assert width * height <= resolution * resolution
        assert (height, width) in sizes


@pytest.mark.parametrize(
    ("size", "bucket"),
    [
        ((1000, 1000), (512, 512)),
        ((1920, 1080), (640, 384)),
        ((1080, 1920), (384, 640)),
        ((5000, 100), (768, 320)),
    ],
)
def test_picture_goes_to_the_bucket_of_its_shape(size: tuple[int, int], bucket: tuple[int, int]) -> None:
    assert choose_bucket(size, bucket_sizes(512, 64)) == bucket


# -- reading ---------------------------------------------------------------------------------------------------------


def test_manifest_paths_are_relative_and_repeats_multiply(tmp_path: Path) -> None:
    (tmp_path / "img").mkdir()
    Image.new("RGB", (40, 40), "red").save(tmp_path / "img" / "a.png")
    entry = {"path": "img/a.png", "sha256": "ab" * 32, "caption": "a plate", "repeats": 3}
    (tmp_path / "set.json").write_text(json.dumps({"items": [entry]}))
    items = read_items(DatasetSpec(manifest=str(tmp_path / "set.json"), repeats=2))
    assert items == [Item(tmp_path / "img" / "a.png", "ab" * 32, "a plate", 6)]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{", "manifest_broken"), ('{"items": [{}]}', "manifest_broken"), ('{"items": []}', "no_images"),
        ('{"items": [{"path": "gone.png"}]}', "image_missing"),
        ('{"items": [{"path": "gone.png", "repeats": 0}]}', "manifest_broken"),
    ],
)  # fmt: skip
def test_wrong_manifest_is_refused(tmp_path: Path, text: str, code: str) -> None:
    (tmp_path / "set.json").write_text(text)
    with pytest.raises(DataError) as caught:
        read_items(DatasetSpec(manifest=str(tmp_path / "set.json")))
    assert caught.value.code == code
    assert caught.value.exit_code == 65


def test_unreadable_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(DataError, match=r"bad\.png"):
        read_size(tmp_path / "bad.png")


def test_what_programs_leave_beside_pictures_is_no_picture(tmp_path: Path) -> None:
    for name in ("a.png", "._a.png", "__MACOSX/b.png", ".thumbnails/c.png", "more/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    items = read_items(DatasetSpec(folder=str(tmp_path)))
    assert [item.path.name for item in items] == ["a.png", "d.png"]


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif", "bmp", "tif"])
def test_damage_of_any_kind_is_a_fault_of_the_picture(tmp_path: Path, suffix: str) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 20, 3), dtype=np.uint8))
    more = {"save_all": True, "append_images": [image.rotate(180)]} if suffix == "gif" else {}
    path = tmp_path / f"a.{suffix}"
    image.save(path, **more)
    whole = path.read_bytes()
    damaged = [whole[:length] for length in range(0, len(whole), max(1, len(whole) // 150))]
    for content in [*damaged, whole[:8] + b"," + whole[9:]]:
        path.write_bytes(content)
        for read in (read_size, lambda path: load_pixels(path, 16, 16), is_clip):
            with contextlib.suppress(DataError):
                read(path)


def test_exif_rotation_is_followed_in_size_and_pixels(tmp_path: Path) -> None:
    image = Image.new("RGB", (60, 30), "black")
    image.paste("white", (0, 0, 30, 30))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise: the left half is on top
    image.save(tmp_path / "a.jpg", exif=exif, quality=95)
    assert read_size(tmp_path / "a.jpg") == (30, 60)
    pixels = load_pixels(tmp_path / "a.jpg", 32, 64)
    assert pixels.shape == (3, 64, 32)
    assert float(pixels[:, :28].mean()) > 0.9
    assert float(pixels[:, 36:].mean()) < -0.9


def test_transparent_parts_become_white(tmp_path: Path) -> None:
    Image.new("RGBA", (16, 16), (255, 0, 0, 0)).save(tmp_path / "a.png")
    assert torch.equal(load_pixels(tmp_path / "a.png", 16, 16), torch.ones(3, 16, 16))


@pytest.mark.parametrize(
    ("pixels", "suffix"),
    [
        (np.linspace(0, 65_535, 256).astype(np.uint16), "png"),
        (np.linspace(0, 1, 256).astype(np.float32), "tiff"),
        (np.linspace(0, 65_535, 256).astype(np.int32), "tiff"),
    ],
)  # fmt: skip
def test_grey_of_more_than_8_bits_keeps_its_tones(tmp_path: Path, pixels: np.ndarray, suffix: str) -> None:
    Image.fromarray(np.tile(pixels, (256, 1))).save(tmp_path / f"a.{suffix}")
    found = load_pixels(tmp_path / f"a.{suffix}", 256, 256)
    wanted = torch.linspace(-1, 1, 256).expand(3, 256, 256)
    assert float((found - wanted).abs().max()) < 0.02


@pytest.mark.parametrize(
    ("trigger", "caption", "text"),
    [
        ("inky", "a cat", "inky, a cat"), ("", "a cat", "a cat"), ("inky", "", "inky"), ("", "", ""),
        ("inky", "a cat, Inky style", "a cat, Inky style"), ("ink", "inky cat", "ink, inky cat"),
    ],
)  # fmt: skip
def test_trigger_and_caption_are_joined(trigger: str, caption: str, text: str) -> None:
    assert caption_text(CaptionSpec(), trigger, caption) == text


@pytest.mark.parametrize(
    ("template", "caption", "text"),
    [
        ("a photo of {trigger}", "sks dog, park", "a photo of sks dog"),
        ("a photo of {trigger}", "", "a photo of sks dog"),
        ("{caption}, {trigger}", "a sks dog in a park", "a sks dog in a park"),
        ("{caption}, {trigger}", "tasks dog, park", "tasks dog, park, sks dog"),
        ("{caption}, {trigger}", "a sks dogs", "a sks dogs, sks dog"),
    ],
)
def test_trigger_is_always_said_once(template: str, caption: str, text: str) -> None:
    assert caption_text(CaptionSpec(template=template), "sks dog", caption) == text


def test_byte_order_mark_is_no_part_of_a_caption(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfa red plate\r\n")
    assert [item.caption for item in read_items(DatasetSpec(folder=str(tmp_path)))] == ["a red plate"]


def test_caption_in_another_encoding_is_named(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "盘子.png")
    (tmp_path / "盘子.txt").write_bytes("红色的盘子".encode("gb18030"))
    with pytest.raises(DataError, match=r"'盘子\.txt' is not UTF-8") as caught:
        read_items(DatasetSpec(folder=str(tmp_path)))
    assert (caught.value.code, caught.value.hint) == ("caption_not_utf8", "Save the file as UTF-8.")


def test_shuffled_tags_keep_the_first_and_lose_none() -> None:
    captions = CaptionSpec(shuffle_tags=True, keep_tags=2, template="{caption}")
    texts = {caption_text(captions, "", "a, b, c, d, e, f", variant) for variant in range(4)}
    assert len(texts) == 4
    for text in texts:
        tags = text.split(", ")
        assert tags[:2] == ["a", "b"]
        assert sorted(tags) == list("abcdef")


# -- caches ----------------------------------------------------------------------------------------------------------


def test_keys_differ_for_every_part() -> None:
    assert (
        len({content_key("a", 8, 8, False), content_key("a", 8, 8, True), content_key("a8", 8, False)}) == 3
    )


def test_cached_latents_and_texts_stay_with_their_picture_over_shuffled_epochs(build: Build) -> None:
    trainer = build(training={"batch_size": 3, "epochs": 3, "steps": None, "flip": True})
    dataset, family, parts = trainer.dataset, trainer.family, trainer.parts
    checked = 0
    for step in range(3 * dataset.plan.steps_per_epoch):
        for batch in trainer.computer.draws(step):
            for draw in batch:
                picture = draw.picture
                pixels = load_pixels(picture.item.path, *picture.bucket, flip=draw.flip)[None]
                with torch.no_grad():
                    fresh = family.encode_image(parts, pixels)[0]
                    text = family.encode_text(parts, [draw.text])[0]["hidden"]
                number = picture.item.path.stem
                assert draw.text == f"inky, plate {number}, plain"
                assert torch.allclose(dataset.latent(picture, draw.flip), fresh, atol=1e-5)
                assert torch.allclose(dataset.text_row(draw.text)["hidden"], text, atol=1e-5)
                checked += 1
    assert checked == 30


def test_second_run_encodes_nothing(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    first = build(run="first")
    monkeypatch.setattr(type(first.family), "encode_image", lambda *a: pytest.fail("encoded a picture again"))
    monkeypatch.setattr(type(first.family), "encode_text", lambda *a: pytest.fail("encoded a text again"))
    build(run="second")


def test_dropped_captions_are_the_cached_empty_prompt(build: Build) -> None:
    trainer = build(training={"caption_dropout": 0.5, "steps": 60})
    texts = [d.text for step in range(60) for batch in trainer.computer.draws(step) for d in batch]
    share = sum(text == "" for text in texts) / len(texts)
    assert 0.4 < share < 0.6
    with torch.no_grad():
        empty = trainer.family.encode_text(trainer.parts, [""])[0]["hidden"]
    assert torch.equal(trainer.dataset.text_row("")["hidden"], empty)
