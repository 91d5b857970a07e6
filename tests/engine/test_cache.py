"""The cache of encoded pictures and texts: what it keeps, in which format, and who else may fill it meanwhile."""

from __future__ import annotations

import errno
import multiprocessing
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from training.engine.data import cache as cache_module
from training.engine.data.cache import Row, TensorCache

from .conftest import Build, weights


@settings(max_examples=20)
@given(st.lists(st.integers(0, 50), max_size=40), st.lists(st.integers(0, 50), max_size=40))
def test_cache_computes_each_key_once_and_gives_it_back(tmp_path_factory: pytest.TempPathFactory, one: list[int],
                                                        two: list[int]) -> None:  # fmt: skip
    folder = tmp_path_factory.mktemp("cache")
    computed: list[str] = []

    def compute(keys: object) -> list[dict[str, torch.Tensor]]:
        computed.extend(keys)  # type: ignore[arg-type]
        return [{"x": torch.full((2,), float(key))} for key in keys]  # type: ignore[attr-defined]

    TensorCache(folder).fill(map(str, one), compute, batch=3)
    cache = TensorCache(folder)
    cache.fill(map(str, two), compute, batch=3)
    assert sorted(computed) == sorted({str(n) for n in one + two})
    for number in {*one, *two}:
        assert cache.get(str(number))["x"].tolist() == [number, number]


def test_broken_shard_is_computed_again(tmp_path: Path) -> None:
    TensorCache(tmp_path).fill(["k"], lambda keys: [{"x": torch.ones(3)} for _ in keys])
    (shard,) = tmp_path.glob("*.safetensors")
    shard.write_bytes(shard.read_bytes()[:-4])
    cache = TensorCache(tmp_path)
    assert "k" not in cache
    assert cache.fill(["k"], lambda keys: [{"x": torch.ones(3)} for _ in keys]) == 1
    assert cache.get("k")["x"].tolist() == [1, 1, 1]
    assert not list(tmp_path.glob(".*"))


def test_shard_that_cannot_be_read_this_time_is_left_to_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    TensorCache(tmp_path).fill(["k"], lambda keys: [{"x": torch.ones(3)} for _ in keys])
    (shard,) = tmp_path.glob("*.safetensors")

    def refused(*args: object, **options: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(cache_module, "safe_open", refused)
        with pytest.raises(OSError, match="Too many open files"):
            TensorCache(tmp_path)
    assert shard.exists()
    assert "k" in TensorCache(tmp_path)


def numbered(keys: Sequence[str]) -> list[Row]:
    """Compute a row for each key as an encoder does: views of one batch."""
    batch = torch.tensor([[float(key)] * 4 for key in keys])
    return [{"x": row} for row in batch]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.bool])
def test_numbers_keep_their_format(tmp_path: Path, dtype: torch.dtype) -> None:
    row = torch.tensor([0.0, 1.0, 3.0]).to(dtype)
    TensorCache(tmp_path).fill(["k"], lambda keys: [{"x": row}])
    found = TensorCache(tmp_path).get("k")["x"]
    assert found.dtype == dtype
    assert torch.equal(found, row)


def test_rows_of_two_bytes_a_number_take_half_the_room(tmp_path: Path) -> None:
    def size(name: str, dtype: torch.dtype) -> int:
        TensorCache(tmp_path / name).fill(["k"], lambda keys: [{"x": torch.ones(512, 64, dtype=dtype)}])
        (shard,) = (tmp_path / name).glob("*.safetensors")
        return shard.stat().st_size

    assert 0 <= size("fp32", torch.float32) - size("bf16", torch.bfloat16) - 512 * 64 * 2 < 64


def test_shard_is_written_when_it_is_large_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "SHARD_BYTES", 3 * 16)
    TensorCache(tmp_path).fill(map(str, range(10)), numbered, batch=1)
    assert len(list(tmp_path.glob("*.safetensors"))) == 4
    cache = TensorCache(tmp_path)
    assert [cache.get(str(n))["x"].tolist() for n in range(10)] == [[n] * 4 for n in range(10)]


def test_what_another_run_computed_meanwhile_is_not_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "SHARD", 4)
    mine = TensorCache(tmp_path)
    computed: list[str] = []
    told: list[tuple[int, int]] = []

    def slowly(keys: Sequence[str]) -> list[Row]:
        if not computed:  # the other begins while this run is at its first shard
            assert TensorCache(tmp_path).fill(map(str, range(4, 9)), numbered, batch=2) == 5
        computed.extend(keys)
        return numbered(keys)

    assert mine.fill(map(str, range(12)), slowly, batch=2, progress=lambda *at: told.append(at)) == 7
    assert computed == ["0", "1", "2", "3", "9", "10", "11"]
    assert told[-1] == (12, 12)
    assert [mine.get(str(n))["x"][0].item() for n in range(12)] == list(range(12))


def _fill(folder: Path, numbers: Sequence[int]) -> None:
    TensorCache(folder).fill(map(str, numbers), numbered, batch=3)


def test_processes_that_fill_it_at_once_leave_it_whole(tmp_path: Path) -> None:
    processes = [
        multiprocessing.get_context("fork").Process(target=_fill, args=(tmp_path, numbers))
        for numbers in (range(60), range(30, 90), range(59, -1, -1), range(60))
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    assert not list(tmp_path.glob(".*")), "nothing half written is left"
    cache = TensorCache(tmp_path)
    assert cache.fill(map(str, range(90)), lambda keys: pytest.fail("computed again")) == 0
    assert [cache.get(str(n))["x"].tolist() for n in range(90)] == [[n] * 4 for n in range(90)]


def test_whole_shard_that_came_in_the_place_of_a_damaged_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    TensorCache(tmp_path).fill(["1"], numbered)
    (shard,) = tmp_path.glob("*.safetensors")
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-4])
    really = cache_module.safe_open

    def open_late(path: Path, **options: str) -> object:
        try:
            return really(path, **options)
        finally:  # another run repairs it at this very moment
            (tmp_path / "aside").write_bytes(whole)
            (tmp_path / "aside").replace(path)

    with monkeypatch.context() as patched:
        patched.setattr(cache_module, "safe_open", open_late)
        assert "1" not in TensorCache(tmp_path)
    assert TensorCache(tmp_path).get("1")["x"].tolist() == [1.0] * 4


# -- runs in two number formats --------------------------------------------------------------------------------------


def rows(build: Build, precision: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Train two steps of Flux, whose text encoders have the denoiser's format; return a text row and the adapter."""
    trainer = build("flux", run=precision, training={"precision": precision, "steps": 2})
    trainer.train()
    return trainer.dataset.text_row("inky, plate 3, plain"), weights(trainer)


def test_runs_in_bf16_and_fp32_share_a_cache_and_no_row_of_it(build: Build, tmp_path: Path) -> None:
    whole, _ = rows(build, "fp32")
    half, adapter = rows(build, "bf16")
    assert {tensor.dtype for tensor in whole.values()} == {torch.float32}
    assert {tensor.dtype for tensor in half.values()} == {torch.bfloat16}
    assert {tensor.dtype for tensor in adapter.values()} == {torch.float32}
    assert sorted(path.name.split("-")[-2] for path in (tmp_path / "cache" / "text").iterdir()) == [
        "bf16",
        "fp32",
    ]
    assert [path.name.split("-")[-2] for path in (tmp_path / "cache" / "latents").iterdir()] == ["fp32"]
    again, same = rows(build, "bf16")
    assert all(torch.equal(half[name], again[name]) for name in half)
    assert all(torch.equal(adapter[name], same[name]) for name in adapter)
