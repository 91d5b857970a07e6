"""Work that takes minutes on a slow machine: it shows that it lives, answers requests, makes do with less memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from training.engine import checkpoint, progress, warm_up
from training.engine.device import choose_threads
from training.engine.errors import Interrupted

from .conftest import Build, assert_equal, recorded, weights

DRAWN = {"prompts": ["a"], "steps": 5, "every_steps": 2}


def count_forward(
    trainer: Any, monkeypatch: pytest.MonkeyPatch, at_call: Callable[[int], None], *, grad: bool
) -> None:
    """Tell ``at_call`` the number of each forward pass with (or without) gradients, from 1 on."""
    forward, calls = type(trainer.family).forward, 0

    def counted(self: Any, *args: Any) -> torch.Tensor:
        nonlocal calls
        if torch.is_grad_enabled() == grad:
            calls += 1
            at_call(calls)
        return forward(self, *args)

    monkeypatch.setattr(type(trainer.family), "forward", counted)


def request_at(
    trainer: Any, monkeypatch: pytest.MonkeyPatch, number: int, *, grad: bool = False
) -> list[int]:
    """Ask for a pause during a forward pass; return the list of passes made, which grows."""
    made: list[int] = []

    def at_call(call: int) -> None:
        made.append(call)
        if call == number:
            trainer.control.request("pause")

    count_forward(trainer, monkeypatch, at_call, grad=grad)
    return made


def slow_clock(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let so much time pass between any two looks at the clock."""
    now = 0.0

    def monotonic() -> float:
        nonlocal now
        now += seconds
        return now

    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=monotonic))


def newest(folder: Path) -> str:
    return checkpoint.find(folder / "checkpoints")[0].name


def test_request_is_answered_between_two_denoising_steps(
    build: Build, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trainer = build(sampling=DRAWN)
    # Five passes for the base model's picture; the third of step 2's is under way when the request comes.
    made = request_at(trainer, monkeypatch, 8)
    with pytest.raises(Interrupted, match="pause"):
        trainer.train()
    assert made[-1] == 8
    assert newest(tmp_path / "run") == "step-00000002"
    assert not trainer.gallery.is_drawn(2)
    again = build(sampling=DRAWN, resume_from=tmp_path / "run" / "checkpoints")
    again.train()
    assert [event.step for event in recorded(again).of("sample")] == [2, 4, 6]
    whole = build(run="whole", sampling=DRAWN)
    whole.train()
    assert_equal(weights(again), weights(whole))


def test_request_is_answered_between_two_parts_of_a_measurement(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = build(training={"held_out": 0.4, "batch_size": 2})
    made = request_at(trainer, monkeypatch, 3)
    with pytest.raises(Interrupted, match="pause"):
        trainer.train()
    assert made[-1] == 3
    assert trainer.state.step == 0


def test_request_is_answered_between_two_parts_of_a_step_and_only_whole_steps_are_kept(
    build: Build, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    recipe = {"batch_size": 2, "gradient_accumulation": 2}
    trainer = build(training=recipe)
    made = request_at(trainer, monkeypatch, 3, grad=True)
    with pytest.raises(Interrupted, match="pause"):
        trainer.train()
    assert made[-1] == 3
    assert newest(tmp_path / "run") == "step-00000001"
    again = build(training=recipe, resume_from=tmp_path / "run" / "checkpoints")
    again.train()
    whole = build(run="whole", training=recipe)
    whole.train()
    assert_equal(weights(again), weights(whole))


def test_cancel_while_drawing_saves_nothing(build: Build, tmp_path: Path) -> None:
    trainer = build(sampling=DRAWN)
    trainer.control.request("cancel")
    with pytest.raises(Interrupted, match="cancel"):
        trainer.draw(0, lora=False)
    assert not (tmp_path / "run" / "checkpoints").exists()
    assert not trainer.gallery.is_drawn(0)


def test_slow_drawing_tells_each_denoising_step(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = build(sampling={"prompts": ["a", "b"], "steps": 4})
    slow_clock(monkeypatch, 36.0)
    trainer.draw(0, lora=False)
    phases = [(event.done, event.total) for event in recorded(trainer).of("phase") if event.phase == "sample"]
    assert phases == [(0, 8), (2, 8), (4, 8), (6, 8), (8, 8)]


def test_slow_measurement_and_slow_step_show_that_the_run_lives(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = build(training={"held_out": 0.4, "batch_size": 2, "gradient_accumulation": 2, "steps": 1})
    before = len(recorded(trainer).events)
    slow_clock(monkeypatch, 36.0)
    trainer.train()
    phases = [
        (event.phase, event.done, event.total)
        for event in recorded(trainer).events[before:]
        if event.type == "phase"
    ]
    # The start, the measurement (15 and 5 pairs of two shapes, two at a time), the middle of the step; the measurement.
    assert phases == [("train", 0, 1)] * (1 + 11 + 1) + [("train", 1, 1)] * 11


def test_measurement_that_does_not_fit_the_memory_is_made_in_halves(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = build(training={"held_out": 0.4, "batch_size": 8})
    whole = trainer.computer.held_out_loss(8)
    forward, sizes = type(trainer.family).forward, []

    def limited(self: Any, parts: Any, noised: torch.Tensor, *rest: Any) -> torch.Tensor:
        sizes.append(noised.shape[0])
        if noised.shape[0] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return forward(self, parts, noised, *rest)

    monkeypatch.setattr(type(trainer.family), "forward", limited)
    assert trainer.computer.held_out_loss(8) == pytest.approx(whole, rel=1e-5)
    assert sizes[:3] == [8, 4, 2]
    assert max(sizes[2:]) == 2


def test_measurement_takes_no_more_pictures_at_once_than_training(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = build(training={"held_out": 0.4, "batch_size": 2, "steps": 1})
    forward, sizes = type(trainer.family).forward, []

    def watched(self: Any, parts: Any, noised: torch.Tensor, *rest: Any) -> torch.Tensor:
        sizes.append(noised.shape[0])
        return forward(self, parts, noised, *rest)

    monkeypatch.setattr(type(trainer.family), "forward", watched)
    trainer.train()
    trainer.evaluate()
    assert max(sizes) == 2


def test_threads_are_chosen_by_a_forward_and_a_backward_pass(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[str] = []
    backward = torch.Tensor.backward

    def watched(self: torch.Tensor, *args: Any) -> None:
        passes.append("backward")
        backward(self, *args)

    def choose(losses: Callable[[], torch.Tensor], **_given: int) -> int:
        return choose_threads(losses, most=2)

    monkeypatch.setattr(torch.Tensor, "backward", watched)
    monkeypatch.setattr(warm_up, "choose_threads", choose)
    trainer = build(threads=0)
    assert passes[:2] == ["backward"] * 2
    assert trainer.state.threads == recorded(trainer).of("plan")[0].threads
    assert all(parameter.grad is None for parameter in trainer.optimizer.parameters)


class Machine:
    """Be a clock by which a pass takes so many seconds, by the number of threads; a third of it forward."""

    def __init__(self, seconds: dict[int, float], first: float = 0.0) -> None:
        self.now = 0.0
        self.done: list[str] = []
        self._seconds = seconds
        self._first = first

    def clock(self) -> float:
        return self.now

    def losses(self) -> torch.Tensor:
        whole = self._seconds[torch.get_num_threads()]
        self.done.append(f"forward on {torch.get_num_threads()}")
        self.now += whole / 3 + self._first
        self._first = 0.0
        losses = torch.ones(2, requires_grad=True)
        losses.register_hook(lambda _gradient: self._backward(whole * 2 / 3))
        return losses

    def _backward(self, seconds: float) -> None:
        self.done.append("backward")
        self.now += seconds


@pytest.mark.parametrize(
    ("seconds", "first", "chosen", "passes"),
    [
        # Small: the first pass, with all that is made once, does not count.
        ({1: 0.3, 4: 0.2}, 0.4, 4, ["forward on 1", "backward"] * 2 + ["forward on 4", "backward"]),
        ({1: 0.3, 4: 0.28}, 0.4, 1, ["forward on 1", "backward"] * 2 + ["forward on 4", "backward"]),
        # So slow on many threads that the forward pass says it.
        ({1: 0.06, 4: 0.25}, 0.1, 1, ["forward on 1", "backward"] * 2 + ["forward on 4"]),
        # Large: no pass is made twice.
        ({1: 60.0, 4: 20.0}, 0.1, 4, ["forward on 1", "backward", "forward on 4", "backward"]),
    ],
)  # fmt: skip
def test_fewest_passes_that_tell_the_faster_number_of_threads_are_made(
    seconds: dict[int, float], first: float, chosen: int, passes: list[str]
) -> None:
    machine = Machine(seconds, first)
    before = torch.get_num_threads()
    try:
        assert choose_threads(machine.losses, most=4, clock=machine.clock) == chosen
    finally:
        torch.set_num_threads(before)
    assert machine.done == passes
