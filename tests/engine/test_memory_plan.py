"""The memory plan: a pure choice between ways to compute, the fastest that fits, and what a run makes of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from training.engine import memory_plan, probe, warm_up
from training.engine.extras import is_installed
from training.engine.memory_plan import Demand, MemoryPlan, Weights, Wishes, choose
from training.engine.registry import load_family

from .conftest import CPU, Build, assert_equal, recorded, weights

GB = 2**30
# About FLUX.1: 11 of 12 billion numbers in linear layers, and pictures as measured with SimpleTuner at 1024 pixels.
FLUX = Weights(int(11e9), int(0.9e9))
PICTURE = {"off": 16 * GB, "blocks": 9 * GB, "all": 4 * GB}
ALL = Wishes(("bf16",), ("none", "int8", "nf4"), ("off", "on"), ("off", "blocks", "all"), 4)


def plan(free: float, wishes: Wishes = ALL, **own: Any) -> MemoryPlan:
    demand = Demand(own.get("weights", FLUX), own.get("fixed", GB), own.get("picture", PICTURE.__getitem__))
    return choose(int(free * GB), demand, wishes)


def summary(found: MemoryPlan) -> tuple[str, str, str, int, bool]:
    return found.quantise, found.offload, found.gradient_checkpointing, found.micro_batch, found.fits


@pytest.mark.parametrize(
    ("free", "expected"),
    [
        (110, ("none", "off", "off", 4, True)),  # 23 + 64 GB are not all of 92 % of it
        (80, ("none", "off", "off", 2, True)),
        (48, ("none", "off", "off", 1, True)),
        (40, ("none", "off", "blocks", 1, True)),
        (32, ("none", "off", "all", 1, True)),
        (29, ("int8", "off", "blocks", 1, True)),
        (20, ("int8", "off", "all", 1, True)),
        (16, ("nf4", "off", "all", 1, True)),
        (12, ("none", "on", "all", 1, True)),
        (6, ("none", "on", "all", 1, False)),
    ],
)
def test_fastest_plan_that_fits_is_chosen(free: float, expected: tuple[object, ...]) -> None:
    assert summary(plan(free)) == expected


def test_order_is_fewer_pictures_then_levels_then_quantised_then_offloaded() -> None:
    wishes = Wishes(("fp32", "bf16"), ("none", "int8"), ("off", "on"), ("off", "all"), 2)
    order = [(p.precision, p.offload, p.quantise, p.gradient_checkpointing, p.micro_batch)
             for p in memory_plan.candidates(wishes)]  # fmt: skip
    assert order[:10] == [
        ("fp32", "off", "none", "off", 2), ("fp32", "off", "none", "off", 1),
        ("fp32", "off", "none", "all", 2), ("fp32", "off", "none", "all", 1),
        ("fp32", "off", "int8", "off", 2), ("fp32", "off", "int8", "off", 1),
        ("fp32", "off", "int8", "all", 2), ("fp32", "off", "int8", "all", 1),
        ("fp32", "on", "none", "all", 2), ("fp32", "on", "none", "all", 1),
    ]  # fmt: skip
    assert len(order) == 20
    assert len(set(order)) == 20
    later = [p.base for p in memory_plan.candidates(wishes, ("fp32", "int8", "off"))]
    assert list(dict.fromkeys(later)) == [
        ("fp32", "int8", "off"), ("fp32", "none", "on"),
        ("bf16", "none", "off"), ("bf16", "int8", "off"), ("bf16", "none", "on"),
    ]  # fmt: skip


def test_what_a_recipe_says_is_not_chosen_anew() -> None:
    said = dataclasses.replace(ALL, quantise=("none",), offload=("off",), gradient_checkpointing=("off",))
    found = plan(8, said)
    assert summary(found) == ("none", "off", "off", 1, False)
    assert found.needed == FLUX.bytes("bf16", "none") + GB + 16 * GB


def test_levels_are_measured_only_when_the_ones_before_do_not_fit() -> None:
    asked: list[str] = []

    def picture(level: str) -> int:
        asked.append(level)
        return PICTURE[level]

    plan(110, picture=picture)
    assert set(asked) == {"off"}
    plan(40, picture=picture)
    assert set(asked) == {"off", "blocks"}


def test_weights_are_counted_by_their_bits() -> None:
    counted = Weights(1000, 100)
    assert counted.bytes("fp32", "none") == 4400
    assert counted.bytes("bf16", "none") == 2200
    assert counted.bytes("bf16", "int8") == 1010 + 200
    assert counted.bytes("fp32", "nf4") == 520 + 400


def test_before_loading_only_what_must_be_smaller_is_made_smaller() -> None:
    def base(free: float, counted: Weights) -> tuple[str, str]:
        found = choose(int(free * GB), memory_plan.before_loading(counted), ALL)
        return found.quantise, found.offload

    assert [base(free, FLUX) for free in (80, 32, 20, 12, 8)] == [
        ("none", "off"), ("none", "off"), ("int8", "off"), ("nf4", "off"), ("none", "on")
    ]  # fmt: skip
    # A small model is no reason to save, however little is free.
    assert base(0.05, Weights(100_000, 100_000)) == ("none", "off")


# -- within a run ----------------------------------------------------------------------------------------------------


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[[Sequence[int]], None]:
    """Set the free memory in bytes: before loading, then for each look of the plan."""

    def fixed(values: Sequence[int]) -> None:
        left = list(values)
        monkeypatch.setattr(warm_up, "free_bytes", lambda device: left.pop(0) if len(left) > 1 else left[0])

    return fixed


def told(trainer: Any) -> tuple[object, ...]:
    event = recorded(trainer).of("memory")[-1]
    return event.gradient_checkpointing, event.micro_batch, event.quantise, event.offload


def test_with_memory_to_spare_nothing_is_saved(build: Build) -> None:
    trainer = build(training={"batch_size": 4})
    assert told(trainer) == ("off", 4, "none", "off")
    event = recorded(trainer).of("memory")[0]
    assert (event.precision, event.compile) == ("fp32", "off")
    assert 0 <= event.needed_mb < event.free_mb


def picture_of(trainer: Any) -> int:
    draws = warm_up._largest(trainer)
    return probe.picture_bytes(lambda: trainer.computer.losses(draws), CPU)


def test_a_picture_counts_with_what_autograd_keeps_of_it(build: Build) -> None:
    trainer = build(training={"gradient_checkpointing": "off"})
    draws = warm_up._largest(trainer)
    one = probe.picture_bytes(lambda: trainer.computer.losses(draws), CPU)
    two = probe.picture_bytes(lambda: trainer.computer.losses(draws * 2), CPU)
    assert one > 100_000
    assert two == pytest.approx(2 * one, rel=0.15)  # what does not grow with the pictures is small


def test_largest_bucket_is_the_one_that_is_measured(build: Build) -> None:
    trainer = build(training={"batch_size": 8})
    areas = {w * h for w, h in (draw.picture.bucket for batch in trainer.computer.draws(0) for draw in batch)}
    width, height = warm_up._largest(trainer)[0].picture.bucket
    assert width * height == max(areas)


@pytest.mark.parametrize(
    ("pictures_free", "expected"), [(2.5, ("off", 2)), (0.8, ("blocks", 1)), (0.4, ("all", 1))]
)
def test_little_memory_gives_a_smaller_plan_and_the_same_result(
    build: Build, free: Callable[[Sequence[int]], None], pictures_free: float, expected: tuple[str, int]
) -> None:
    plain = build(run="plain", training={"batch_size": 4, "steps": 2})
    plain.train()
    room = int(pictures_free * picture_of(plain) / memory_plan.USABLE)
    # What the run holds already is added to what is free, and is planned with like all of it.
    held = warm_up._held(plain, probe.count_weights(load_family("sd").tiny().denoiser))
    free([GB, room + int(held / memory_plan.USABLE) - held])
    small = build(run="small", training={"batch_size": 4, "steps": 2})
    assert told(small)[:2] == expected
    small.train()
    for name, tensor in weights(plain).items():
        assert torch.allclose(tensor, weights(small)[name], atol=2e-3), name


def test_plan_that_does_not_fit_is_tried_with_a_warning(
    build: Build, free: Callable[[Sequence[int]], None]
) -> None:
    free([GB, -GB])
    trainer = build(training={"batch_size": 4, "steps": 1})
    assert told(trainer) == ("all", 1, "none", "off")
    assert [w.code for w in recorded(trainer).of("warning")] == ["memory_tight"]
    trainer.train()


def test_resumed_run_keeps_its_plan_whatever_is_free_now(
    build: Build, free: Callable[[Sequence[int]], None], tmp_path: Path
) -> None:
    free([GB, -GB])
    whole = build(run="whole", training={"batch_size": 4})
    whole.train()
    free([GB, GB])
    again = build(
        run="again", training={"batch_size": 4}, resume_from=tmp_path / "whole/checkpoints/step-00000003"
    )
    assert told(again) == ("all", 1, "none", "off")
    assert recorded(again).of("memory")[0].needed_mb == 0
    again.train()
    assert_equal(weights(whole), weights(again))


def test_processor_without_room_for_fp32_trains_in_bf16_and_goes_on_so(
    build: Build, free: Callable[[Sequence[int]], None], tmp_path: Path
) -> None:
    free([-2_000_000, GB])
    whole = build(run="whole")
    assert whole.precision == "bf16"
    assert next(whole.parts.denoiser.parameters()).dtype == torch.bfloat16
    whole.train()
    free([GB])
    again = build(run="again", resume_from=tmp_path / "whole" / "checkpoints" / "step-00000003")
    assert again.precision == "bf16"
    again.train()
    assert_equal(weights(whole), weights(again))


@pytest.mark.parametrize("method", ["lora", "dora", "loha"])
def test_base_that_is_loaded_anew_has_one_adapter_in_all_its_parts(
    build: Build, free: Callable[[Sequence[int]], None], method: str
) -> None:
    free([GB, -GB])
    trainer = build(method={"type": method, "text_encoder": True}, training={"steps": 2})
    assert trainer.precision == "bf16"
    assert trainer.adapter.modules == 40
    fresh = weights(trainer)
    trainer.train()
    moved = [name for name, tensor in weights(trainer).items() if not torch.equal(fresh[name], tensor)]
    assert any(name.startswith("text_encoder") for name in moved)
    assert any(name.startswith("denoiser") for name in moved)
    trainer.export_lora_weights()


@pytest.mark.skipif(not is_installed("torchao"), reason="the extra gpu is missing")
def test_base_that_turns_out_too_large_is_loaded_anew_and_smaller(
    build: Build, free: Callable[[Sequence[int]], None]
) -> None:
    free([GB, -GB])
    trainer = build(base_model={"quantise": "auto"}, training={"precision": "fp32", "steps": 2})
    assert trainer.state.quantise in ("int8", "nf4")
    trainer.train()
    trainer.export_lora_weights()


def test_quantising_is_no_choice_where_no_library_is_there(
    build: Build, free: Callable[[Sequence[int]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.engine.foundation.installed_kinds", lambda: ())
    free([GB, -GB])
    trainer = build(base_model={"quantise": "auto"}, training={"precision": "fp32"})
    assert told(trainer) == ("all", 1, "none", "off")
