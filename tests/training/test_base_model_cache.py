"""Base models that lie on a share are kept on the worker's disk, the ones used longest ago going first."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from tests.training.rows import make_base
from training.base_model_cache import local_base
from training.models import FoundationModel

pytestmark = pytest.mark.django_db
DAY = 86_400


@pytest.fixture
def share(settings: Any, tmp_path: Path) -> Path:
    settings.BASE_MODELS_DIR, settings.BASE_CACHE_DIR = tmp_path / "share", tmp_path / "cache"
    settings.BASE_CACHE_GB = 25e-6  # 25 kB
    return tmp_path / "share"


def model(share: Path, key: str, size: int = 10_000) -> FoundationModel:
    folder = share / key
    (folder / "unet").mkdir(parents=True)
    (folder / "model_index.json").write_text("{}")
    (folder / "unet" / "weights.safetensors").write_bytes(key[0].encode() * size)
    return make_base(key=key, path=key, sha256=key[0] * 64)


class Told:
    def __init__(self) -> None:
        self.phases: list[str] = []

    def __call__(self, done: int, total: int, phase: str = "fetch_data") -> None:
        self.phases.append(phase)


def test_a_model_is_copied_once_and_found_again(share: Path) -> None:
    base, told = model(share, "alpha"), Told()
    first = local_base(base, told)
    assert first == share.parent / "cache" / ("a" * 64)
    assert (first / "unet" / "weights.safetensors").read_bytes() == b"a" * 10_000
    assert set(told.phases) == {"fetch_base"}
    (share / "alpha" / "unet" / "weights.safetensors").unlink()  # the share is not looked at again
    assert local_base(base, told) == first
    assert len(told.phases) == 2


def test_the_one_used_longest_ago_goes_when_there_is_no_room(share: Path) -> None:
    alpha, beta, gamma = (model(share, name) for name in ("alpha", "beta", "gamma"))
    for age, base in ((3, alpha), (2, beta)):
        copy = local_base(base, Told())
        os.utime(copy, (time.time(), time.time() - age * DAY))
    assert local_base(alpha, Told()).name == "a" * 64  # used again: beta is the older one now
    assert local_base(gamma, Told()).name == "g" * 64
    kept = {path.name[0] for path in (share.parent / "cache").iterdir()}
    assert kept == {"a", "g"}


def test_a_model_in_use_stays_and_the_next_is_read_where_it_lies(share: Path) -> None:
    alpha, beta, gamma = (model(share, name) for name in ("alpha", "beta", "gamma"))
    local_base(alpha, Told())
    local_base(beta, Told())
    assert local_base(gamma, Told()) == share / "gamma"
    assert {path.name[0] for path in (share.parent / "cache").iterdir()} == {"a", "b"}


def test_a_model_larger_than_the_limit_or_without_a_limit_is_read_where_it_lies(
    share: Path, settings: Any
) -> None:
    assert local_base(model(share, "large", 30_000), Told()) == share / "large"
    settings.BASE_CACHE_GB = 0.0
    assert local_base(model(share, "small"), Told()) == share / "small"


def test_a_wish_ends_the_copying_and_leaves_nothing(share: Path) -> None:
    def ends(done: int, total: int, phase: str = "") -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        local_base(model(share, "alpha"), ends)
    assert list((share.parent / "cache").iterdir()) == []


def test_a_full_disk_is_no_reason_to_stop(share: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_paths: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    assert local_base(model(share, "alpha"), Told()) == share / "alpha"
    assert list((share.parent / "cache").iterdir()) == []


def test_what_a_killed_worker_left_half_made_is_cleared_away(share: Path) -> None:
    half = share.parent / "cache" / ".half.123"
    half.mkdir(parents=True)
    os.utime(half, (0, 0))
    local_base(model(share, "alpha"), Told())
    assert not half.exists()
