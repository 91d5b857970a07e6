"""Clips: as video models draw them, as they are read from files, and trained on."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from training.engine import rng
from training.engine.data import videos
from training.engine.data.clips import is_clip, load_clip, write_clip
from training.engine.data.pictures import load_pixels, read_size
from training.engine.errors import ConfigurationError, DataError
from training.engine.families.base import ModelFamily
from training.engine.families.ltx import CONDITION, LTX
from training.engine.families.sd import StableDiffusion
from training.engine.families.wan import Wan

from .conformance import EDGE
from .conftest import Build, recorded
from .known_families import KNOWN
from .test_conformance import drawn_by_both
from .test_family_variants import of_condition

# -- models ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "kind", "frames"),
    [
        (Wan(), "2.1", 5),
        (Wan(), "14b", 9),
        (Wan(), "5b", 5),
        (LTX(), "LTXPipeline", 9),
        (LTX(), CONDITION, 9),
    ],
)
def test_clip_is_that_of_the_diffusers_pipeline(family: Any, kind: str, frames: int) -> None:
    known = of_condition() if kind == CONDITION else KNOWN[family.name]
    ours, theirs = drawn_by_both(family, family.tiny(kind), known, frames)
    assert ours.shape[2] == frames
    assert float(ours.diff(dim=2).abs().max()) > 1e-3, "nothing moves"
    assert torch.allclose(ours, theirs, atol=2e-5)


@pytest.mark.parametrize("family", [Wan(), LTX()])
def test_encoded_clip_has_the_shape_that_noise_is_drawn_in(family: ModelFamily) -> None:
    parts = family.tiny()
    frames = 2 * family.frame_step + 1
    with torch.no_grad():
        clip = torch.rand(1, 3, frames, EDGE, EDGE, generator=rng.generator(0, "clip")) * 2 - 1
        latents = family.encode_image(parts, clip)
        assert tuple(latents.shape[1:]) == family.clip_shape(parts, EDGE, EDGE, frames)
        assert family.decode_image(parts, latents).shape == clip.shape
        still = family.encode_image(parts, clip[:, :, 0])
        assert tuple(still.shape[1:]) == family.latent_shape(parts, EDGE, EDGE)
        # Both autoencoders are causal: the first latent frame is that of the first frame alone.
        assert torch.allclose(still, latents[:, :, :1], atol=1e-5)


# -- files -----------------------------------------------------------------------------------------------------------


def grey(level: int, size: tuple[int, int] = (48, 32)) -> Image.Image:
    return Image.new("RGB", size, (level, level, level))


def animation(path: Path, levels: Sequence[int], duration: int | list[int], **options: Any) -> Path:
    frames = [grey(level) for level in levels]
    frames[0].save(
        path, save_all=True, append_images=frames[1:], duration=duration, **options
    )  # fmt: skip
    return path


def levels_of(clip: torch.Tensor) -> list[int]:
    """Return the grey of each frame."""
    assert float(clip.flatten(2).std(2).max()) < 1e-3
    return [round((float(frame.mean()) + 1) * 127.5) for frame in clip.unbind(1)]


@pytest.mark.parametrize(
    ("suffix", "options"), [("png", {}), ("webp", {"lossless": True}), ("gif", {"disposal": 1})]
)
def test_frames_are_those_shown_at_their_moment(tmp_path: Path, suffix: str, options: dict[str, Any]) -> None:
    path = animation(tmp_path / f"a.{suffix}", [0, 40, 80, 120], [100, 200, 100, 50], **options)
    assert is_clip(path)
    assert read_size(path) == (48, 32)
    clip = load_clip(path, 48, 32, frames=9, rate=20)
    assert clip.shape == (3, 9, 32, 48)
    assert levels_of(clip) == [0, 0, 40, 40, 40, 40, 80, 80, 120]


def test_frame_that_says_no_time_is_shown_for_a_tenth_of_a_second(tmp_path: Path) -> None:
    path = animation(tmp_path / "a.gif", [0, 50, 100], 0)
    assert levels_of(load_clip(path, 48, 32, frames=5, rate=16)) == [0, 0, 50, 50, 100]


def test_clip_that_is_too_short_is_named_with_its_frames(tmp_path: Path) -> None:
    path = animation(tmp_path / "short.webp", [0, 40, 80], 100)
    assert levels_of(load_clip(path, 48, 32, frames=3, rate=10))
    with pytest.raises(DataError, match=r"clip 'short\.webp' has 3 frames at 10 a second, not 5") as caught:
        load_clip(path, 48, 32, frames=5, rate=10)
    assert caught.value.code == "clip_short"


def test_still_pictures_and_pages_are_no_clips(tmp_path: Path) -> None:
    grey(9).save(tmp_path / "a.png")
    grey(9).save(tmp_path / "a.tiff", save_all=True, append_images=[grey(8)])
    assert not is_clip(tmp_path / "a.png")
    assert not is_clip(tmp_path / "a.tiff")


def test_clip_is_mirrored_scaled_and_cropped_like_a_picture(tmp_path: Path) -> None:
    frames = []
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 255, (40, 90, 3), dtype=np.uint8)
        frames.append(Image.fromarray(pixels))
        frames[-1].save(tmp_path / f"{number}.png")
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], duration=100, lossless=True)
    for how in ({"flip": True}, {"corner": (7, 0)}):
        clip = load_clip(tmp_path / "a.webp", 32, 32, frames=2, rate=10, **how)  # type: ignore[arg-type]
        for number in range(2):
            still = load_pixels(tmp_path / f"{number}.png", 32, 32, **how)  # type: ignore[arg-type]
            assert torch.equal(clip[:, number], still)


def test_written_clip_is_read_again(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.webp", [grey(level) for level in (10, 60, 200, 90)], 16)
    found = levels_of(load_clip(tmp_path / "a.webp", 48, 32, frames=4, rate=16))
    assert np.abs(np.subtract(found, (10, 60, 200, 90))).max() <= 2


def test_damaged_clip_is_named(tmp_path: Path) -> None:
    path = animation(tmp_path / "bad.webp", [0, 40, 80], 100)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match=r"bad\.webp"):
        load_clip(path, 48, 32, frames=3, rate=10)


# -- videos ----------------------------------------------------------------------------------------------------------

PYAV = importlib.util.find_spec("av") is not None


def video(path: Path, levels: Sequence[int], rate: int) -> Path:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for level in levels:
            frame = av.VideoFrame.from_image(grey(level))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.skipif(PYAV, reason="PyAV is installed")
def test_video_without_pyav_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"")
    with pytest.raises(DataError, match=r"video 'a\.mp4' needs PyAV") as caught:
        read_size(tmp_path / "a.mp4")
    assert caught.value.code == "video_extra_missing"
    assert "requirements/video.txt" in str(caught.value.hint)


def test_missing_library_is_told_of_any_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(DataError) as caught:
        next(videos.video_frames(tmp_path / "a.mp4"))
    assert caught.value.code == "video_extra_missing"


@pytest.mark.skipif(not PYAV, reason="the extra video is missing")
def test_video_is_read_at_the_rate_of_the_model(tmp_path: Path) -> None:
    path = video(tmp_path / "a.mp4", [0, 60, 120, 180], 10)
    assert is_clip(path)
    assert read_size(path) == (48, 32)
    found = levels_of(load_clip(path, 48, 32, frames=8, rate=20))
    assert np.abs(np.subtract(found, (0, 0, 60, 60, 120, 120, 180, 180))).max() <= 4
    still = load_pixels(path, 48, 32)
    assert float(still.mean()) < -0.95


@pytest.mark.skipif(not PYAV, reason="the extra video is missing")
def test_damaged_video_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"\0" * 100)
    with pytest.raises(DataError, match=r"video 'bad\.mp4' cannot be read"):
        read_size(tmp_path / "bad.mp4")


# -- training --------------------------------------------------------------------------------------------------------


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Three clips and two stills, in one shape."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for number in range(3):
        levels = [(number * 60 + 8 * frame) % 255 for frame in range(12)]
        animation(folder / f"{number}.webp", levels, 100)
        (folder / f"{number}.txt").write_text(f"clip {number}")
    for number in (3, 4):
        grey(40 * number).save(folder / f"{number}.png")
    return folder


@pytest.mark.parametrize(("name", "frames", "latent"), [("wan", 5, 2), ("ltx", 9, 3)])
def test_run_trains_on_clips_and_stills_and_draws_clips(
    build: Build, clips: Path, name: str, frames: int, latent: int
) -> None:
    trainer = build(
        name, pictures=clips, training={"frames": frames, "batch_size": 2, "steps": 4},
        sampling={"prompts": ["a clip"], "steps": 2, "every_steps": 4},
    )  # fmt: skip
    assert trainer.dataset.bucket_samples == {"32x32": 2, f"32x32x{frames}": 3}
    shapes = {tuple(trainer.dataset.latent(p).shape[:2]) for p in trainer.dataset.pictures}
    assert {shape[1] for shape in shapes} == {1, latent}
    trainer.train()
    assert [event.path for event in recorded(trainer).of("sample")] == [
        "samples/step-00000000-p0.webp", "samples/step-00000004-p0.webp",
    ]  # fmt: skip
    for file in trainer.gallery.files(4):
        assert is_clip(file)
        assert load_clip(file, 32, 32, frames=frames, rate=trainer.family.frame_rate).shape[1] == frames
    assert trainer.gallery.is_drawn(4)


def test_latents_of_a_clip_are_those_of_its_frames(build: Build, clips: Path) -> None:
    trainer = build("wan", pictures=clips, training={"frames": 5, "flip": True})
    for picture in trainer.dataset.pictures:
        if picture.frames == 1:
            continue
        for flip in (False, True):
            pixels = load_clip(picture.item.path, *picture.bucket, frames=5, rate=16, flip=flip)
            with torch.no_grad():
                fresh = trainer.family.encode_image(trainer.parts, pixels[None])[0]
            assert torch.allclose(trainer.dataset.latent(picture, flip), fresh, atol=1e-5)


def test_clip_is_trained_on_by_its_first_frame_where_stills_are(build: Build, clips: Path) -> None:
    trainer = build("wan", pictures=clips)
    assert trainer.dataset.bucket_samples == {"32x32": 5}


def test_longer_clips_than_there_are_end_the_run_with_the_name(build: Build, clips: Path) -> None:
    with pytest.raises(DataError, match="frames at 16 a second, not 81"):
        build("wan", pictures=clips, training={"frames": 81})


@pytest.mark.parametrize(
    ("family", "frames", "code", "fitting"),
    [(Wan(), 6, "frames_do_not_fit", 5), (LTX(), 16, "frames_do_not_fit", 17), (StableDiffusion(), 9, "no_clips", 1)],
)  # fmt: skip
def test_number_of_frames_that_the_model_does_not_take_is_refused(
    family: ModelFamily, frames: int, code: str, fitting: int
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        family.require_frames(frames)
    assert (caught.value.code, caught.value.patch) == (code, {"/training/frames": fitting})
    family.require_frames(fitting)
