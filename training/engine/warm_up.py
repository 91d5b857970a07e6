"""What is measured and decided between the loaded model and the first step: memory plan, threads, compiled blocks.

Decided once a run and kept in its state: a resumed run must compute the same, in the same order.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from training.engine import foundation, memory_plan, regional
from training.engine.device import available_cpus, choose_threads
from training.engine.estimate import KEPT
from training.engine.events import Memory, Plan, Warning
from training.engine.memory_plan import ADAPTER_BYTES, Base, Demand, MemoryPlan, Weights, Wishes
from training.engine.probe import TOO_MUCH, free_bytes, held_bytes, picture_bytes
from training.engine.progress import ProgressTeller
from training.engine.recompute import set_level

if TYPE_CHECKING:
    from training.engine.api import LoRATrainer
    from training.engine.data.placement import Picture
    from training.engine.step import Draw


def prepare(trainer: LoRATrainer, weights: Weights, *, is_new: bool) -> None:
    """Make a trainer ready for its first step."""
    if is_new:
        fit_memory(trainer, weights)
    set_level(trainer.parts.denoiser, trainer.state.gradient_checkpointing)
    if trainer.device.type == "cpu":
        if not trainer.state.threads:
            trainer.state.threads = trainer.world.agree(
                trainer.world.lead(lambda: _measure_threads(trainer)) or 0
            )
        torch.set_num_threads(trainer.state.threads)
    if trainer.spec.training.compile == "regional" and (is_new or trainer.state.compile == "regional"):
        _compile(trainer)


def tell(trainer: LoRATrainer) -> None:
    """Tell what will be done, and how it is computed."""
    state, memory, plan, training = trainer.state, trainer.plan, trainer.dataset.plan, trainer.spec.training
    trainer.sink.emit(Plan(
        total_steps=plan.total_steps, epochs=plan.epochs, steps_per_epoch=plan.steps_per_epoch,
        batch_size=training.batch_size, gradient_accumulation=training.gradient_accumulation,
        device=_device_name(trainer), threads=torch.get_num_threads(), precision=trainer.precision,
        adapted_modules=trainer.adapter.modules,
        trainable_parameters=sum(p.numel() for p in trainer.optimizer.parameters),
        images=len(trainer.dataset.pictures), buckets=trainer.dataset.bucket_samples,
        resumed_from_step=state.step if trainer.is_resumed else 0,
    ))  # fmt: skip
    trainer.sink.emit(Memory(
        precision=memory.precision, quantise=memory.quantise, offload=memory.offload,
        gradient_checkpointing=state.gradient_checkpointing, micro_batch=state.micro_batch, compile=state.compile,
        needed_mb=memory.needed // 2**20, free_mb=memory.free // 2**20,
    ))  # fmt: skip


def _device_name(trainer: LoRATrainer) -> str:
    name = torch.cuda.get_device_name(trainer.device) if trainer.device.type == "cuda" else "cpu"
    return name if trainer.world.size == 1 else f"{trainer.world.size} x {name}"


def most_threads(trainer: LoRATrainer) -> int:
    """Return how many CPU threads this process may use, of several their share."""
    return max(1, available_cpus() // trainer.world.size)


# -- memory ------------------------------------------------------------------------------------------------------------


def first_plan(trainer: LoRATrainer, weights: Weights) -> MemoryPlan:
    """Choose how the denoiser goes to the device, from its weights alone."""
    demand = memory_plan.before_loading(weights)
    free = free_bytes(trainer.device)
    if trainer.parts.device.type == trainer.device.type:  # it is there already, at least for now
        free += weights.bytes(trainer.precision, "none")
    return _agreed(trainer, free, demand, foundation.wishes(trainer))


def fit_memory(trainer: LoRATrainer, weights: Weights) -> None:
    """Measure a picture, choose the plan, and take it up; the base model is loaded anew if it must be smaller."""
    wished = foundation.wishes(trainer)
    if not foundation.supports_checkpointing(trainer.parts.denoiser):
        wished = dataclasses.replace(wished, gradient_checkpointing=("off",))
    if trainer.parts.folder is None:  # then it cannot be loaded anew
        precision, quantise, offload = trainer.plan.base
        wished = dataclasses.replace(wished, precision=(precision,), quantise=(quantise,), offload=(offload,))
    while True:
        free = free_bytes(trainer.device) + _held(trainer, weights)
        plan = _agreed(trainer, free, _demand(trainer, weights), wished, trainer.plan.base)
        settled = trainer.plan.base == plan.base
        if not settled:
            foundation.reload(trainer, plan)
        trainer.take_up(plan)
        if settled:
            break
        trainer.attach()
    if not plan.fits:
        trainer.sink.emit(Warning(
            "memory_tight",
            f"This run needs about {plan.needed // 2**20} MB of memory, and {plan.free // 2**20} MB are free.",
            hint="It is tried all the same. A lower resolution or a worker with more memory is safer.",
        ))  # fmt: skip


def _agreed(
    trainer: LoRATrainer, free: int, demand: Demand, wished: Wishes, start: Base | None = None
) -> MemoryPlan:
    """Choose a plan; of several processes the leader's, since all must compute in the same parts."""
    plan = memory_plan.choose(free, demand, wished, start)
    if trainer.world.size == 1:
        return plan
    every = list(memory_plan.candidates(wished))
    own = every.index(dataclasses.replace(plan, needed=0, free=0))
    return dataclasses.replace(every[trainer.world.agree(own)], needed=plan.needed, free=plan.free)


def _held(trainer: LoRATrainer, weights: Weights) -> int:
    """Return what this run takes already of what it counts as its need."""
    if trainer.device.type == "cuda":
        return held_bytes(trainer.device)
    return weights.bytes(trainer.plan.precision, trainer.plan.quantise) + _fixed(trainer)


def _fixed(trainer: LoRATrainer) -> int:
    """Return what the parts beside the denoiser take on the device, and the adapter with its moments."""
    beside = [module for module in trainer.parts.modules if module is not trainer.parts.denoiser]
    tensors = [t for module in beside for t in (*module.parameters(), *module.buffers())]
    there = sum(t.numel() * t.element_size() for t in tensors if t.device.type == trainer.device.type)
    return there + ADAPTER_BYTES * sum(p.numel() for p in trainer.optimizer.parameters)


def _demand(trainer: LoRATrainer, weights: Weights) -> Demand:
    """Return the measured demand; a level is measured when the plan first asks for it."""
    known: dict[str, int] = {}

    def picture(level: str) -> int:
        if level not in known:
            known[level] = _picture(trainer, level)
        return known[level]

    return Demand(weights, _fixed(trainer), picture)


def _picture(trainer: LoRATrainer, level: str) -> int:
    """Measure the picture with the largest latents at a level of gradient checkpointing."""
    draws = _largest(trainer)
    on_cpu = trainer.device.type == "cpu"
    set_level(trainer.parts.denoiser, "off" if on_cpu else level)
    found = picture_bytes(lambda: trainer.computer.losses(draws), trainer.device)
    trainer.optimizer.zero_grad()
    # On the CPU one forward pass must do: what autograd keeps of it, and the usual share of that.
    return found if found == TOO_MUCH or not on_cpu else math.ceil(found * KEPT[level])


def _largest(trainer: LoRATrainer) -> list[Draw]:
    """Return a sample with the largest latents there are: with several resolutions the first step may have none."""
    samples = trainer.dataset.samples
    return [trainer.computer.draw(0, 0, max(range(len(samples)), key=lambda i: _places(samples[i])))]


def _places(picture: Picture) -> int:
    """Count its pixels in all frames."""
    return math.prod(picture.bucket) * picture.frames


# -- threads -----------------------------------------------------------------------------------------------------------


def _measure_threads(trainer: LoRATrainer) -> int:
    """Choose the number of CPU threads by measuring."""
    teller = ProgressTeller(trainer.sink, trainer.control, "warm_up", total=1)
    count = min(2, trainer.state.micro_batch)

    # Forward and backward: the two scale differently, and the backward pass is the longer one.
    def losses() -> Tensor:
        teller(0, 1)
        return trainer.computer.losses(trainer.computer.draws(0)[0][:count])

    threads = choose_threads(losses, most=most_threads(trainer))
    trainer.optimizer.zero_grad()
    teller.finish(1)
    return threads


# -- compiled blocks -------------------------------------------------------------------------------------------------


def _compile(trainer: LoRATrainer) -> None:
    """Compile the denoiser's blocks, or say why not and train without."""
    teller = ProgressTeller(trainer.sink, trainer.control, "warm_up", total=1)
    regional.keep_programs(trainer.cache_dir / "compiled")
    draws = max(trainer.computer.draws(0), key=len)
    parameters = trainer.optimizer.parameters

    def gradients(count: int) -> Tensor:
        # A request ends it between two programs; where other processes wait, only after the last one.
        (teller if trainer.world.size == 1 else teller.note)(0, 1)
        trainer.optimizer.zero_grad()
        trainer.computer.losses(draws[:count]).sum().backward()
        found = torch.cat(
            [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in parameters]
        )
        trainer.optimizer.zero_grad()
        return found

    buckets = trainer.dataset.bucket_samples
    problem = regional.compile_blocks(
        trainer.parts.denoiser, gradients, _sizes(trainer, buckets.values(), len(draws)),
        precision=trainer.precision, dynamic=len(buckets) > 1,
    )  # fmt: skip
    # One process that cannot leaves all without: their steps are to be the same.
    if trainer.world.any(problem is not None):
        regional.release(trainer.parts.denoiser)
        trainer.state.compile = "off"
        trainer.sink.emit(Warning(
            "compile_failed",
            f"The model could not be compiled and is trained as it is: {problem or 'another process could not'}.",
            hint="Nothing needs to be done. Turn compiling off to save the attempt.",
            patch={"/training/compile": "off"},
        ))  # fmt: skip
    else:
        trainer.state.compile = "regional"
    teller.finish(1)


def _sizes(trainer: LoRATrainer, samples: Iterable[int], most: int) -> list[int]:
    """Return how many pictures are computed at once in the course of an epoch, up to ``most``, the most first.

    One program is made for each; where buckets differ, one for all of two and more, and one for a single picture.
    """
    batch, micro = trainer.spec.training.batch_size, trainer.state.micro_batch
    samples = list(samples)
    wholes = {min(batch, count) for count in samples} | {count % batch for count in samples}
    if trainer.spec.buckets.fill:
        wholes = {batch}
    found = {micro for whole in wholes if whole >= micro} | {whole % micro for whole in wholes}
    found = {size for size in found if 0 < size <= most}
    if len(samples) > 1:
        found = {max(found)} | (found & {1})
    return sorted(found, reverse=True)
