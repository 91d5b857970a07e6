"""Several processes train one LoRA: the same numbers as one, one leader, one end."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from training.engine import checkpoint, cli, dist
from training.engine.api import LoRATrainer
from training.engine.control import Control
from training.engine.errors import Interrupted
from training.engine.spec import RunSpec
from training.engine.step import StepComputer

from .conftest import Recorder, assert_equal, make_spec, weights
from .gangs import Gang, in_ranks, start

pytestmark = pytest.mark.slow

# What adding up in another order changes of weights of up to 0.3 after six steps of AdamW; 3.2e-6 was seen.
ROUNDING = 1e-5


@pytest.fixture
def spec(bases: dict[str, Path], pictures: Path, tmp_path: Path) -> RunSpec:
    return make_spec(bases["sd"], pictures, cache_dir=str(tmp_path / "cache"))


@pytest.fixture
def gangs() -> Iterator[Callable[..., Gang]]:
    started: list[Gang] = []

    def begin(*arguments: Any, **options: Any) -> Gang:
        started.append(start(*arguments, **options))
        return started[-1]

    yield begin
    for gang in started:
        gang.close()


def train(
    spec: RunSpec, run_dir: Path, *, prepare: Callable[[LoRATrainer], None] = lambda trainer: None, **options: Any
) -> tuple[dict[str, Tensor], Recorder, LoRATrainer]:  # fmt: skip
    """Train in this process, one of several or alone."""
    recorder = Recorder()
    trainer = LoRATrainer(
        spec, run_dir=run_dir, sink=recorder, device=torch.device("cpu"), world=dist.join(), **options
    )
    prepare(trainer)
    trainer.run()
    trainer.world.leave()
    return weights(trainer), recorder, trainer


def differs(one: dict[str, Tensor], two: dict[str, Tensor]) -> float:
    assert one.keys() == two.keys()
    return max(float((one[name] - two[name]).abs().max()) for name in one)


@pytest.mark.parametrize("training", [{}, {"batch_size": 1, "gradient_accumulation": 3}, {"batch_size": 3}])
def test_any_number_of_processes_ends_with_the_weights_of_one(
    spec: RunSpec, bases: dict[str, Path], pictures: Path, tmp_path: Path, training: dict[str, int]
) -> None:
    spec = make_spec(bases["sd"], pictures, cache_dir=spec.cache_dir, training=training)
    alone, told, _ = train(spec, tmp_path / "alone")

    def work(rank: int) -> Any:
        tensors, recorder, _ = train(spec, tmp_path / "ranks")
        return tensors, recorder.curve("loss"), recorder.curve("grad_norm")

    for size in (2, 3):
        results = in_ranks(work, size)
        for tensors, losses, norms in results:
            assert_equal(tensors, results[0][0])
            assert differs(tensors, alone) < ROUNDING
            assert losses == pytest.approx(told.curve("loss"), rel=1e-5)
            assert norms == pytest.approx(told.curve("grad_norm"), rel=1e-4)


def test_alone_nothing_is_exchanged(spec: RunSpec, tmp_path: Path) -> None:
    _, _, trainer = train(spec, tmp_path / "run")
    assert type(trainer.world) is dist.World
    assert not torch.distributed.is_initialized()


def test_the_samples_of_a_step_are_dealt_to_all_and_none_twice(spec: RunSpec, tmp_path: Path) -> None:
    _, _, trainer = train(spec, tmp_path / "run")
    for size in (1, 2, 3, 5):
        worlds = [dist.World() for _ in range(size)]
        for rank, world in enumerate(worlds):
            world.rank, world.size = rank, size
        for step in range(6):
            indexes = [draw.index for batch in trainer.computer.draws(step) for draw in batch]
            dealt = [[index for index in indexes if world.has(index)] for world in worlds]
            assert sorted(index for share in dealt for index in share) == indexes
            assert max(map(len, dealt)) - min(map(len, dealt)) <= 1


def test_the_sum_is_one_exchange_and_counts_a_missing_gradient_as_zero() -> None:
    def work(rank: int) -> Any:
        world = dist.join()
        one, two = nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(3))
        if rank == 0:
            one.grad = torch.full((2, 2), 1.5)
        two.grad = torch.full((3,), float(rank + 1))
        calls = []
        reduce = torch.distributed.all_reduce
        torch.distributed.all_reduce = lambda *a, **k: (calls.append(a), reduce(*a, **k))[1]
        loss = world.add_up([one, two], torch.tensor(0.25))
        assert one.grad is not None
        world.leave()
        return one.grad.tolist(), two.grad.tolist(), float(loss), len(calls)

    assert in_ranks(work) == [([[1.5, 1.5], [1.5, 1.5]], [3.0, 3.0, 3.0], 0.5, 1)] * 2


def test_memory_that_runs_out_in_one_process_makes_the_parts_smaller_in_all(
    spec: RunSpec, tmp_path: Path
) -> None:
    alone, _, _ = train(spec, tmp_path / "alone")

    def work(rank: int) -> Any:
        def prepare(trainer: LoRATrainer) -> None:
            train_step = trainer.train

            def with_a_full_card() -> bool:
                losses, full = trainer.computer.losses, [rank == 1]

                def once(draws: Any) -> Tensor:
                    if full[0] and len(draws) > 1:
                        full[0] = False
                        raise torch.OutOfMemoryError("CUDA out of memory")
                    return losses(draws)

                trainer.computer.losses = once  # type: ignore[method-assign]
                return train_step()

            trainer.train = with_a_full_card  # type: ignore[method-assign]

        tensors, recorder, trainer = train(spec, tmp_path / "ranks", prepare=prepare)
        return tensors, trainer.state.micro_batch, [event.code for event in recorder.of("warning")]

    results = in_ranks(work)
    for tensors, micro_batch, warnings in results:
        assert (micro_batch, warnings) == (2, ["out_of_memory_retry"])
        assert differs(tensors, alone) < ROUNDING


def test_a_step_without_a_finite_gradient_in_one_process_is_left_out_by_all(
    spec: RunSpec, tmp_path: Path
) -> None:
    def work(rank: int) -> Any:
        def prepare(trainer: LoRATrainer) -> None:
            begin = trainer.train

            def with_a_bad_step() -> bool:
                losses = trainer.computer.losses

                def once(draws: Any) -> Tensor:
                    return losses(draws) * (float("nan") if rank == 1 and draws[0].step == 2 else 1.0)

                trainer.computer.losses = once  # type: ignore[method-assign]
                return begin()

            trainer.train = with_a_bad_step  # type: ignore[method-assign]

        tensors, recorder, trainer = train(spec, tmp_path / "ranks", prepare=prepare)
        return tensors, trainer.state.skipped_steps, [event.code for event in recorder.of("warning")]

    (leader, skipped, warnings), (other, skipped_too, _) = in_ranks(work)
    assert (skipped, skipped_too, warnings) == (1, 1, ["not_finite"])
    assert_equal(leader, other)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in leader.values())


@pytest.mark.parametrize("moment", ["cache_latents", "sample", "step"])
def test_a_request_that_only_the_leader_hears_interrupts_all(
    spec: RunSpec, bases: dict[str, Path], pictures: Path, tmp_path: Path, moment: str
) -> None:
    """In the caches, while samples are drawn, in the middle of a step."""
    sampling = {"prompts": ["a cat"], "every_steps": 2}
    spec = make_spec(bases["sd"], pictures, cache_dir=spec.cache_dir, sampling=sampling)

    def work(rank: int) -> Any:
        control = Control()

        class Impatient(Recorder):
            def emit(self, event: Any) -> None:
                super().emit(event)
                if rank == 0 and event.type == "phase" and event.phase == moment:
                    control.request("pause")

        sink = Impatient()
        trainer = LoRATrainer(
            spec, run_dir=tmp_path / "ranks", sink=sink, device=torch.device("cpu"), world=dist.join(),
            control=control,
        )  # fmt: skip
        draws = StepComputer.draws

        def asked_within(self: StepComputer, step: int) -> Any:
            if rank == 0 and moment == "step" and step == 4:
                control.request("pause")
            return draws(self, step)

        StepComputer.draws = asked_within  # type: ignore[method-assign]
        try:
            trainer.run()
        except Interrupted as interrupted:
            assert trainer.world.leave()
            return interrupted.reason, sink.of("interrupted")[0].step
        return None

    step = {"cache_latents": 0, "sample": 1, "step": 5}[moment]
    assert in_ranks(work) == [("pause", step), ("pause", step)]
    saved = checkpoint.find(tmp_path / "ranks" / "checkpoints")
    assert (checkpoint.load(saved[0]).state.step if saved else 0) == step


def test_a_run_under_torchrun_is_told_and_written_by_its_leader_alone(
    spec: RunSpec, tmp_path: Path, gangs: Callable[..., Gang]
) -> None:
    gang = gangs(spec, tmp_path / "run")
    assert gang.wait() == 0
    alone, _, _ = train(spec, tmp_path / "alone")
    saved = load_file(tmp_path / "run/checkpoints/step-00000006/adapter.safetensors")
    assert differs(saved, alone) < ROUNDING
    assert [event["step"] for event in gang.of("checkpoint")] == [3, 6]
    assert (len(gang.of("plan")), len(gang.of("export")), len(gang.of("done"))) == (1, 1, 1)
    assert gang.of("plan")[0]["device"] == "2 x cpu"
    lines = (tmp_path / "run/events.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == gang.events


def test_a_killed_process_ends_the_run_and_it_is_resumed_to_the_same_weights(
    bases: dict[str, Path], pictures: Path, spec: RunSpec, tmp_path: Path, gangs: Callable[..., Gang]
) -> None:
    spec = make_spec(bases["sd"], pictures, cache_dir=spec.cache_dir, training={"steps": 60})
    quiet = in_ranks(lambda rank: train(spec, tmp_path / "quiet")[0])[0]
    hit = gangs(spec, tmp_path / "hit")
    hit.step(5)
    ranks = hit.ranks()
    ranks[1].send_signal(signal.SIGKILL)
    assert hit.wait(30) in (70, -signal.SIGKILL)  # the first word or the first death, whichever is seen first
    assert [event["code"] for event in hit.of("error")] == ["rank_lost"]
    assert not any(rank.is_running() and rank.status() != psutil.STATUS_ZOMBIE for rank in ranks)
    saved = checkpoint.find(tmp_path / "hit/checkpoints")
    assert 3 <= checkpoint.load(saved[0]).state.step < 60
    resumed = in_ranks(lambda rank: train(spec, tmp_path / "hit", resume_from=saved[0])[0])
    assert_equal(resumed[0], quiet)
    assert_equal(resumed[1], quiet)


def test_the_switch_of_the_leader_ends_all(
    bases: dict[str, Path], pictures: Path, spec: RunSpec, tmp_path: Path, gangs: Callable[..., Gang]
) -> None:
    long = make_spec(bases["sd"], pictures, cache_dir=spec.cache_dir, training={"steps": 5000})
    gang = gangs(long, tmp_path / "run")
    gang.step(1)
    ranks = gang.ranks()
    gang.tell(type="lease", ttl=1)
    began = time.monotonic()
    assert gang.process.wait(60) == 75
    assert time.monotonic() - began < 10
    assert not any(rank.is_running() and rank.status() != psutil.STATUS_ZOMBIE for rank in ranks)
    last = json.loads((tmp_path / "run/events.jsonl").read_text().splitlines()[-1])
    assert (last["type"], last["reason"]) == ("interrupted", "lease_lost")


def test_a_process_that_does_not_answer_is_not_waited_for_for_ever(
    bases: dict[str, Path], pictures: Path, spec: RunSpec, tmp_path: Path
) -> None:
    long = make_spec(bases["sd"], pictures, cache_dir=spec.cache_dir, training={"steps": 5000})

    def work(rank: int) -> Any:
        os.environ["LF_COLLECTIVE_SECONDS"] = "2"

        def prepare(trainer: LoRATrainer) -> None:
            if rank == 1:
                backward = trainer.train

                def stuck() -> bool:
                    time.sleep(8)
                    return backward()

                trainer.train = stuck  # type: ignore[method-assign]

        try:
            train(long, tmp_path / "run", prepare=prepare)
        except dist.RankLost as error:
            return error.code, error.category
        return None

    assert in_ranks(work)[0] == ("rank_lost", "platform")


def test_what_made_another_process_fail_is_what_the_leader_tells(
    bases: dict[str, Path], pictures: Path, spec: RunSpec, tmp_path: Path, gangs: Callable[..., Gang]
) -> None:
    """A mistake that all meet is told once, by its own name and with its own exit code."""
    wrong = make_spec(bases["sd"], pictures, base_model={"path": str(tmp_path / "nowhere"), "family": "sd"})
    gang = gangs(wrong, tmp_path / "run")
    assert gang.wait() == 64
    assert [event["code"] for event in gang.of("error")] == ["base_model_missing"]


def test_the_command_line_runs_under_torchrun_too(spec: RunSpec, tmp_path: Path, capfd: Any) -> None:
    config = tmp_path / "tiny.json"
    config.write_text(json.dumps(spec.to_dict()))
    run = ["run", str(config), "--run-dir", str(tmp_path / "run")]
    assert in_ranks(lambda rank: int(cli.main(run))) == [0, 0]
    lines = (tmp_path / "run/events.jsonl").read_text().splitlines()
    assert [json.loads(line)["type"] for line in lines].count("done") == 1
    assert capfd.readouterr().out.count(f"\n{tmp_path}/run/exports/tiny.safetensors\n") == 1


@pytest.mark.parametrize(
    "sections",
    [
        {"prior": {"prompt": "a plate", "count": 5, "steps": 2, "guidance": 1.0}},
        {
            "prior": {"prompt": "a plate", "teacher": True}, "method": {"type": "dora", "text_encoder": True},
            "training": {"batch_size": 2, "gradient_accumulation": 3, "ema_decay": 0.9},
        },
        {
            "prior": {"prompt": "a plate", "teacher": True},
            "training": {"resolution": 64, "resolutions": [32], "batch_size": 3},
        },
    ],
    ids=["drawn", "teacher of everything at once", "several resolutions"],
)  # fmt: skip
def test_class_is_kept_by_any_number_of_processes_as_by_one(
    bases: dict[str, Path], pictures: Path, tmp_path: Path, sections: dict[str, Any]
) -> None:
    spec = make_spec(bases["sd"], pictures, cache_dir=str(tmp_path / "cache"), **sections)

    def work(rank: int) -> dict[str, Tensor]:
        # A fork of a process that has used several threads would wait for them for ever: one processor, one thread.
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        return train(spec, tmp_path / "ranks")[0]

    results = in_ranks(work, 2)
    alone, _, trainer = train(spec, tmp_path / "alone")
    assert trainer.dataset.regularisation
    for tensors in results:
        assert_equal(tensors, results[0])
        assert differs(tensors, alone) < ROUNDING
