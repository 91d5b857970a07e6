"""Compiled blocks: checked against the plain model, and left aside whatever goes wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from training.engine import regional, warm_up
from training.engine.blocks import blocks
from training.engine.errors import Interrupted
from training.engine.families.base import ModelFamily
from training.engine.registry import load_family

from .conftest import Build, assert_equal, recorded, weights


@pytest.fixture(autouse=True)
def _tracing_only(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Trace forward and backward passes as the compiler does, but make no program: that takes minutes on the CPU."""
    monkeypatch.setattr(regional, "BACKEND", "aot_eager")
    yield
    torch.compiler.reset()


def compiled(denoiser: nn.Module) -> list[bool]:
    return [block._compiled_call_impl is not None for block in blocks(denoiser)]


def test_compiled_run_has_the_weights_of_the_plain_one(build: Build) -> None:
    plain = build(run="plain", training={"steps": 2})
    plain.train()
    trainer = build(run="compiled", training={"steps": 2, "compile": "regional"})
    assert recorded(trainer).of("memory")[0].compile == "regional"
    assert recorded(trainer).of("warning") == []
    assert all(compiled(trainer.parts.denoiser))
    trainer.train()
    for name, tensor in weights(plain).items():
        assert torch.allclose(tensor, weights(trainer)[name], atol=1e-5), name


def test_compiler_that_fails_leaves_the_run_as_it_was(
    build: Build, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plain = build(run="plain")
    plain.train()
    monkeypatch.setattr(regional, "BACKEND", "no_such_compiler")
    trainer = build(run="a", training={"compile": "regional"})
    [warning] = recorded(trainer).of("warning")
    assert warning.code == "compile_failed"
    assert "no_such_compiler" in warning.message
    assert warning.patch == {"/training/compile": "off"}
    assert not any(compiled(trainer.parts.denoiser))
    trainer.train()
    assert_equal(weights(plain), weights(trainer))
    # It is not tried again on resume: the steps must go on as they began.
    monkeypatch.setattr(regional, "BACKEND", "aot_eager")
    again = build(
        run="b", training={"compile": "regional"}, resume_from=tmp_path / "a/checkpoints/step-00000003"
    )
    assert recorded(again).of("memory")[0].compile == "off"
    assert not any(compiled(again.parts.denoiser))


def test_request_during_compiling_is_no_failure_of_the_compiler() -> None:
    denoiser = load_family("sd").tiny().denoiser

    def gradients(size: int) -> Tensor:
        if any(compiled(denoiser)):
            raise Interrupted("pause")
        return torch.ones(2)

    with pytest.raises(Interrupted, match="pause"):
        regional.compile_blocks(denoiser, gradients, [1], precision="fp32", dynamic=False)


def answers(*values: float) -> Callable[[int], Tensor]:
    """Return a gradient for each call in turn."""
    left = list(values)
    return lambda size: torch.tensor([1.0, left.pop(0)])


@pytest.mark.parametrize(
    ("precision", "values", "problem"),
    [
        ("fp32", (1.0, 1.0, 1.0001, 1.0), None),
        ("fp32", (1.0, 1.0, 1.0, 1.01), "the compiled model's gradient for 1 pictures is off by 0.7%"),
        ("bf16", (1.0, 1.0, 1.0, 1.01), None),
        ("bf16", (1.0, 1.0, 1.1, 1.0), "the compiled model's gradient for 4 pictures is off by 7.1%"),
        (
            "bf16",
            (1.0, 1.0, float("nan"), 1.0),
            "the compiled model's gradient for 4 pictures is off by nan%",
        ),
    ],
)
def test_compiled_gradient_that_differs_is_not_trained_with(
    family: ModelFamily, precision: str, values: tuple[float, ...], problem: str | None
) -> None:
    denoiser = family.tiny().denoiser
    found = regional.compile_blocks(denoiser, answers(*values), [4, 1], precision=precision, dynamic=True)
    assert found == problem
    assert any(compiled(denoiser)) == (problem is None)


def test_model_without_blocks_is_told() -> None:
    problem = regional.compile_blocks(nn.Linear(2, 2), answers(), [1], precision="fp32", dynamic=False)
    assert problem == "this base model has no repeated blocks"


@pytest.mark.parametrize(
    ("batch", "micro", "samples", "most", "expected"),
    [
        (4, 4, [12], 4, [4]),
        (4, 4, [10], 4, [4, 2]),
        (4, 2, [11], 4, [2, 1]),
        (8, 8, [3], 3, [3]),
        (4, 4, [12, 10], 4, [4]),  # one program for two and more where shapes differ
        (4, 4, [12, 9], 4, [4, 1]),
    ],
)
def test_sizes_are_those_that_an_epoch_computes(
    build: Build, batch: int, micro: int, samples: list[int], most: int, expected: list[int]
) -> None:
    trainer: Any = build(training={"batch_size": batch})
    trainer.state.micro_batch = micro
    assert warm_up._sizes(trainer, samples, most) == expected
