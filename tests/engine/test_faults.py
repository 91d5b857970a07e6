"""What a run survives, and how it ends when it cannot."""

from __future__ import annotations

import json
import resource
import shutil
import signal
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch

from training.engine import checkpoint
from training.engine.errors import ConfigurationError, DiskError, Interrupted, MemoryExhausted
from training.engine.optimizer import Optimizer
from training.engine.spec import TrainingSpec

from .conftest import Build, assert_equal, recorded, weights

# -- memory ----------------------------------------------------------------------------------------------------------


def refuse_batches_over(trainer: Any, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the family's forward pass fail as a full GPU does."""
    forward = type(trainer.family).forward

    def limited(self: Any, parts: Any, noised: torch.Tensor, t: torch.Tensor, text: Any) -> torch.Tensor:
        if torch.is_grad_enabled() and noised.shape[0] > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return forward(self, parts, noised, t, text)

    monkeypatch.setattr(type(trainer.family), "forward", limited)


def test_out_of_memory_halves_the_micro_batch_and_changes_no_result(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = build(run="plain", training={"batch_size": 8, "steps": 3})
    plain.train()
    small = build(run="small", training={"batch_size": 8, "steps": 3})
    refuse_batches_over(small, 2, monkeypatch)
    small.train()
    assert small.state.micro_batch == 2
    told = recorded(small).of("warning")
    assert [w.code for w in told] == ["out_of_memory_retry", "out_of_memory_retry"]
    assert told[-1].patch == {"/training/batch_size": 2}
    one, two = recorded(plain).curve("loss"), recorded(small).curve("loss")
    assert one == pytest.approx(two, rel=1e-4)
    for name, tensor in weights(plain).items():
        assert torch.allclose(tensor, weights(small)[name], atol=2e-3), name


def test_smaller_micro_batch_is_kept_on_resume(
    build: Build, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trainer = build(run="a", training={"batch_size": 8, "steps": 3})
    refuse_batches_over(trainer, 4, monkeypatch)
    trainer.train()
    again = build(run="b", training={"batch_size": 8, "steps": 3}, resume_from=tmp_path / "a" / "checkpoints")
    assert again.state.micro_batch == 4


@pytest.mark.parametrize(("resolution", "smaller"), [(128, {"/training/resolution": 64}), (32, {})])
def test_out_of_memory_at_one_picture_ends_with_advice(
    build: Build, monkeypatch: pytest.MonkeyPatch, resolution: int, smaller: dict[str, int]
) -> None:
    monkeypatch.setattr("training.engine.loop.installed_kinds", tuple)
    trainer = build(training={"batch_size": 2, "gradient_checkpointing": "off", "resolution": resolution})
    refuse_batches_over(trainer, 0, monkeypatch)
    before = weights(trainer)
    with pytest.raises(MemoryExhausted) as caught:
        trainer.train()
    assert caught.value.exit_code == 71
    assert caught.value.category == "capacity"
    assert caught.value.patch == {**smaller, "/training/gradient_checkpointing": "all"}
    assert ("64 pixels" in str(caught.value.hint)) == bool(smaller)
    told = [w for w in recorded(trainer).of("warning") if w.code != "images_small"]
    assert [w.code for w in told] == [
        "out_of_memory_retry",
        "out_of_memory_checkpointing",
        "out_of_memory_checkpointing",
    ]
    assert [w.patch for w in told[1:]] == [
        {"/training/gradient_checkpointing": "blocks"},
        {"/training/gradient_checkpointing": "all"},
    ]
    assert trainer.state.gradient_checkpointing == "all"
    assert_equal(before, weights(trainer))


def test_out_of_memory_for_good_advises_a_smaller_base_where_one_can_be_made(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = build(training={"gradient_checkpointing": "all"})
    refuse_batches_over(trainer, 0, monkeypatch)
    monkeypatch.setattr("training.engine.loop.installed_kinds", lambda: ("int8",))
    with pytest.raises(MemoryExhausted) as caught:
        trainer.train()
    assert caught.value.patch == {"/base_model/quantise": "auto", "/training/gradient_checkpointing": "all"}
    assert caught.value.hint == "Let the base model be made smaller, or choose a worker with more memory."


def test_other_errors_are_not_taken_for_missing_memory(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = build()

    def broken(*args: Any) -> torch.Tensor:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(type(trainer.family), "forward", broken)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        trainer.train()


# -- values that are not finite --------------------------------------------------------------------------------------


def poison(trainer: Any, steps: set[int], *, times: int = 10**6) -> None:
    """Make the loss of some steps NaN, at most ``times`` times each."""
    computer, original = trainer.computer, trainer.computer.losses
    left = dict.fromkeys(steps, times)

    def losses(draws: Any) -> torch.Tensor:
        step = draws[0].step
        if left.get(step, 0):
            left[step] -= 1
            return original(draws) * float("nan")
        return original(draws)

    computer.losses = losses


def test_a_step_without_a_finite_gradient_is_left_out(build: Build) -> None:
    trainer = build(training={"steps": 3})
    poison(trainer, {1})
    states: list[dict[str, torch.Tensor]] = []
    step = trainer.optimizer.step

    def observed(*args: Any) -> None:
        step(*args)
        states.append({**weights(trainer), **trainer.optimizer.state_dict()})

    trainer.optimizer.step = observed  # type: ignore[method-assign]
    trainer.train()
    assert_equal(states[0], states[1])
    assert trainer.state.step == 3
    assert trainer.state.skipped_steps == 1
    assert [w.code for w in recorded(trainer).of("warning")] == ["not_finite"]
    assert all(torch.isfinite(t).all() for t in weights(trainer).values())


def test_three_bad_steps_roll_back_once_at_half_the_learning_rate(build: Build) -> None:
    trainer = build(training={"steps": 8, "schedule": "constant"}, checkpoint={"every_steps": 2})
    poison(trainer, {2, 3, 4}, times=1)
    trainer.train()
    assert (trainer.state.rollbacks, trainer.state.learning_rate_scale) == (1, 0.5)
    assert trainer.state.step == 8
    codes = [w.code for w in recorded(trainer).of("warning")]
    assert codes == ["not_finite", "not_finite", "not_finite", "rolled_back"]
    assert recorded(trainer).curve("learning_rate")[8] == pytest.approx(1.5e-3)


def test_diverging_twice_ends_with_advice(build: Build) -> None:
    trainer = build(training={"steps": 12, "learning_rate": 4e-3}, checkpoint={"every_steps": 2})
    poison(trainer, set(range(3, 12)))
    with pytest.raises(ConfigurationError) as caught:
        trainer.train()
    assert caught.value.code == "diverged"
    assert caught.value.patch == {"/training/learning_rate": 1e-3}
    assert all(torch.isfinite(t).all() for t in weights(trainer).values())


# -- the optimizer ---------------------------------------------------------------------------------------------------


def test_clipping_really_shortens_the_gradient(build: Build) -> None:
    trainer = build(training={"max_grad_norm": 0.001})
    trainer.computer.backward(0, 4)
    norm = trainer.optimizer.clip()
    after = torch.nn.utils.get_total_norm([p.grad for p in trainer.optimizer.parameters])
    assert float(norm) > 0.01
    assert float(after) == pytest.approx(0.001, rel=1e-3)


def test_no_clipping_when_it_is_off(build: Build) -> None:
    trainer = build(training={"max_grad_norm": 0})
    trainer.computer.backward(0, 4)
    before = [p.grad.clone() for p in trainer.optimizer.parameters]
    trainer.optimizer.clip()
    assert all(torch.equal(a, p.grad) for a, p in zip(before, trainer.optimizer.parameters, strict=True))


def test_learning_rate_counts_optimizer_steps_not_batches(build: Build) -> None:
    for accumulation in (1, 2):
        trainer = build(
            run=f"run{accumulation}",
            training={"gradient_accumulation": accumulation, "steps": 4, "schedule": "linear"},
        )
        trainer.train()
        assert list(recorded(trainer).curve("learning_rate").values()) == pytest.approx(
            [3e-3, 2.25e-3, 1.5e-3, 0.75e-3]
        )


def test_step_equals_plain_adamw(build: Build) -> None:
    trainer = build(training={"weight_decay": 0.1, "schedule": "constant", "max_grad_norm": 0})
    group = trainer.adapter.groups()[0]
    copies = [p.detach().clone().requires_grad_() for _, p in group.parameters]
    plain = torch.optim.AdamW(copies, lr=3e-3, weight_decay=0.1, foreach=False)
    optimizer = Optimizer([group], TrainingSpec(weight_decay=0.1, schedule="constant", max_grad_norm=0.0), 10)
    for step in range(3):
        trainer.computer.backward(step, 4)
        for copy, (_, parameter) in zip(copies, group.parameters, strict=True):
            copy.grad = parameter.grad.clone() if parameter.grad is not None else None
        plain.step()
        optimizer.step(step, optimizer.clip())
        optimizer.zero_grad()
        for copy, (name, parameter) in zip(copies, group.parameters, strict=True):
            assert torch.allclose(copy, parameter, atol=1e-6), name


# -- checkpoints -----------------------------------------------------------------------------------------------------


def test_checkpoint_holds_no_pickle_and_names_every_file(build: Build, tmp_path: Path) -> None:
    build(run="a").train()
    folder = tmp_path / "a" / "checkpoints"
    newest = folder / "step-00000006"
    assert {p.name for p in newest.iterdir()} == {
        "adapter.safetensors", "optimizer.safetensors", "state.json", "manifest.json"
    }  # fmt: skip
    assert set(json.loads((newest / "manifest.json").read_text())) == {
        "adapter.safetensors", "optimizer.safetensors", "state.json"
    }  # fmt: skip


@pytest.mark.parametrize("damage", ["cut", "flip", "manifest", "gone"])
def test_damaged_checkpoint_is_passed_over_for_the_one_before(
    build: Build, tmp_path: Path, damage: str
) -> None:
    build(run="a").train()
    folder = tmp_path / "a" / "checkpoints"
    file = folder / "step-00000006" / ("manifest.json" if damage == "manifest" else "optimizer.safetensors")
    data = bytearray(file.read_bytes())
    if damage == "gone":
        file.unlink()
    elif damage == "flip":
        data[-1] ^= 1
        file.write_bytes(data)
    else:
        file.write_bytes(data[:-9])
    again = build(run="b", resume_from=folder / "step-00000006")
    assert again.state.step == 3
    assert [w.code for w in recorded(again).of("warning")] == ["checkpoint_damaged"]


def test_old_checkpoints_go_only_after_the_new_one_is_whole(build: Build, tmp_path: Path) -> None:
    build(run="a", training={"steps": 8}, checkpoint={"every_steps": 2, "keep": 2}).train()
    names = [p.name for p in checkpoint.find(tmp_path / "a" / "checkpoints")]
    assert names == ["step-00000008", "step-00000006"]
    assert not list((tmp_path / "a" / "checkpoints").glob(".*"))


def test_changed_recipe_is_refused_by_name(build: Build, tmp_path: Path) -> None:
    build(run="a").train()
    with pytest.raises(ConfigurationError) as caught:
        build(run="b", training={"learning_rate": 1e-3}, resume_from=tmp_path / "a" / "checkpoints")
    assert caught.value.code == "recipe_changed"
    assert "/training/learning_rate was 0.003, is 0.001" in caught.value.message


def test_changed_pictures_are_refused(build: Build, pictures: Path, tmp_path: Path) -> None:
    build(run="a").train()
    other = tmp_path / "other"
    shutil.copytree(pictures, other)
    (other / "0.txt").write_text("another caption")
    with pytest.raises(ConfigurationError, match="picture set has changed"):
        build(run="b", pictures=other, resume_from=tmp_path / "a" / "checkpoints")


def test_full_disk_is_seen_before_writing_and_keeps_the_last_checkpoint(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = build(run="a")
    trainer.train()
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 1000))
    trainer.state.step = 7
    with pytest.raises(DiskError) as caught:
        trainer.save(7)
    assert (caught.value.code, caught.value.exit_code) == ("disk_full", 74)
    assert checkpoint.find(tmp_path / "a" / "checkpoints")[0].name == "step-00000006"


def test_disk_that_fills_while_a_checkpoint_is_written_leaves_nothing_of_it(
    build: Build, tmp_path: Path
) -> None:
    trainer = build(run="a")
    trainer.train()
    size = (tmp_path / "a" / "checkpoints" / "step-00000006" / "optimizer.safetensors").stat().st_size
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, before[1][1]))
    trainer.state.step = 7
    try:
        with pytest.raises(DiskError) as caught:
            trainer.save(7)
    finally:
        signal.signal(signal.SIGXFSZ, before[0])
        resource.setrlimit(resource.RLIMIT_FSIZE, before[1])
    assert (caught.value.code, caught.value.exit_code) == ("disk_write_failed", 74)
    assert sorted(path.name for path in (tmp_path / "a" / "checkpoints").iterdir()) == [
        "step-00000003",
        "step-00000006",
    ]


# -- requests --------------------------------------------------------------------------------------------------------


def after_steps(trainer: Any, count: int, request: str) -> None:
    """Send a request once ``count`` steps are done."""
    step = trainer.optimizer.step

    def counted(number: int, *args: Any) -> None:
        step(number, *args)
        if number + 1 == count:
            trainer.control.request(request)

    trainer.optimizer.step = counted


@pytest.mark.parametrize("request_name", ["pause", "preempt", "drain"])
def test_interruption_saves_where_it_stands(build: Build, tmp_path: Path, request_name: str) -> None:
    trainer = build(run="a")
    after_steps(trainer, 2, request_name)
    with pytest.raises(Interrupted) as caught:
        trainer.train()
    assert caught.value.reason == request_name
    assert checkpoint.find(tmp_path / "a" / "checkpoints")[0].name == "step-00000002"
    whole = build(run="whole")
    whole.train()
    again = build(run="again", resume_from=tmp_path / "a" / "checkpoints")
    again.train()
    assert_equal(weights(whole), weights(again))


def test_cancel_saves_nothing(build: Build, tmp_path: Path) -> None:
    trainer = build(run="a")
    after_steps(trainer, 2, "cancel")
    with pytest.raises(Interrupted, match="cancel"):
        trainer.train()
    assert trainer.state.step == 2
    assert not (tmp_path / "a" / "checkpoints").exists()


def test_stop_keeps_what_is_there_and_exports_it(build: Build) -> None:
    trainer = build(run="a")
    after_steps(trainer, 2, "stop")
    assert trainer.train() is False
    trainer.export_lora_weights()
    assert trainer.state.step == 2
    assert [e.path for e in recorded(trainer).of("export")] == ["exports/tiny.safetensors"]
    assert not recorded(trainer).of("interrupted")


def test_checkpoint_on_request_goes_on_training(build: Build) -> None:
    trainer = build(run="a")
    after_steps(trainer, 1, "checkpoint")
    trainer.train()
    assert [e.step for e in recorded(trainer).of("checkpoint")] == [1, 3, 6]


def test_strongest_of_several_requests_wins(build: Build) -> None:
    trainer = build()
    for request in ("checkpoint", "pause", "nonsense", "cancel"):
        trainer.control.request(request)
    assert trainer.control.take() == "cancel"
    assert trainer.control.take() == "cancel"
