"""Hints for known failures, and estimates before a run."""

from __future__ import annotations

import errno
import json
from typing import Any

import pytest

from training.engine.errors import ConfigurationError
from training.engine.estimate import DEVICES, estimate
from training.engine.hints import HINTS, explain, find
from training.engine.registry import family_names, load_family, load_method, method_names
from training.engine.spec import FIELDS, RunSpec


def spec_of(**sections: Any) -> RunSpec:
    return RunSpec.from_dict(
        {"name": "x", "base_model": {"path": "b"}, "dataset": {"folder": "d"}, **sections}
    )


@pytest.mark.parametrize(
    ("error", "code", "exit_code"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate 512 MiB"), "out_of_memory", 71),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
            "out_of_memory",
            71,
        ),
        (MemoryError(), "out_of_memory", 71),
        (OSError(errno.ENOSPC, "No space left on device"), "disk_full", 74),
        (PermissionError(errno.EACCES, "Permission denied"), "read_only", 74),
        (OSError(errno.EIO, "Input/output error"), "io_error", 74),
        (
            RuntimeError("Error(s) in loading state_dict: size mismatch for conv_in.weight"),
            "wrong_family",
            64,
        ),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied (77x1024 and 768x320)"), "wrong_family", 64),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "/x/a.png"), "no_file", 65),
        (OSError("Error no file named diffusion_pytorch_model.safetensors found"), "pickle_refused", 64),
        (RuntimeError("CUDA error: device-side assert triggered"), "cuda_lost", 70),
        (RuntimeError("CUDA error: no kernel image is available for execution"), "cuda_kernel", 70),
        (RuntimeError("\"addmm_impl_cpu_\" not implemented for 'BFloat16'"), "bf16_unsupported", 64),
        (OSError("image file is truncated (12 bytes not processed)"), "image_unreadable", 65),
        (ModuleNotFoundError("No module named 'peft'"), "missing_module", 70),
    ],
)
def test_known_failure_is_recognised(error: BaseException, code: str, exit_code: int) -> None:
    explained = explain(error)
    assert (explained.code, explained.exit_code) == (code, exit_code)
    assert explained.hint


def test_unknown_failure_is_internal_and_keeps_its_words() -> None:
    explained = explain(ZeroDivisionError("division by zero"))
    assert (explained.code, explained.exit_code, explained.category) == ("internal", 70, "platform")
    assert "division by zero" in explained.message
    assert find(ZeroDivisionError("division by zero")) is None


def test_our_own_errors_are_left_alone() -> None:
    error = ConfigurationError("diverged", "m", hint="h")
    assert explain(error) is error


def test_every_patch_is_a_valid_change_of_the_spec() -> None:
    for hint in HINTS:
        for pointer, value in (hint.patch or {}).items():
            assert pointer in FIELDS
            section, name = pointer.strip("/").split("/")
            spec_of(**{section: {name: value}})
        json.dumps(hint.patch)
    assert len({hint.code for hint in HINTS}) == len(HINTS) >= 15


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
