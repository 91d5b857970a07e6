"""Estimates before a run, and what the registry says of a name it does not know."""

from __future__ import annotations

from typing import Any

import pytest

from training.engine.errors import ConfigurationError
from training.engine.estimate import DEVICES, estimate
from training.engine.registry import family_names, load_family, load_method, method_names
from training.engine.spec import RunSpec


def spec_of(**sections: Any) -> RunSpec:
    return RunSpec.from_dict(
        {"name": "x", "base_model": {"path": "b"}, "dataset": {"folder": "d"}, **sections}
    )


def test_unknown_family_names_the_nearest() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_family("sdd")
    assert caught.value.patch == {"/base_model/family": "sd"}
    assert load_family("sd").name == "sd"
    assert load_method("lora").name == "lora"
    assert family_names()
    assert "lora" in method_names()


def test_measured_step_gives_the_time_exactly() -> None:
    spec = spec_of(training={"steps": 100, "batch_size": 8, "resolution": 64})
    result = estimate(spec, 24, seconds_per_step=0.5, seconds_per_drawing=2.0)
    assert (result.total_steps, result.epochs, result.steps_per_epoch, result.measured) == (100, 34, 3, True)
    assert result.seconds == pytest.approx(50, abs=2)
    drawn = estimate(
        spec_of(training={"steps": 100, "batch_size": 8, "resolution": 64},
                sampling={"prompts": ["a"], "every_steps": 25}), 24, seconds_per_step=0.5, seconds_per_drawing=2.0,
    )  # fmt: skip
    assert drawn.seconds - result.seconds == pytest.approx(10)


def test_memory_grows_with_batch_and_shrinks_with_checkpointing() -> None:
    def memory(**training: Any) -> int:
        return estimate(spec_of(training=training), 20, device=DEVICES["24 GB"]).memory_mb

    assert memory(batch_size=1) < memory(batch_size=8)
    levels = [memory(batch_size=32, gradient_checkpointing=level) for level in ("all", "blocks", "off")]
    assert levels == sorted(set(levels))
    assert memory(batch_size=8, resolution=256) < memory(batch_size=8, resolution=512)


def test_run_that_is_too_large_for_a_device_is_told() -> None:
    eight = {"batch_size": 8, "gradient_checkpointing": "off"}
    assert estimate(spec_of(training=eight), 20, device=DEVICES["8 GB"]).fits is False
    assert estimate(spec_of(training={"batch_size": 1}), 20, device=DEVICES["8 GB"]).fits is True
