"""The training loop: accumulate, clip, step; checkpoints, samples and requests at step borders; faults survived."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from training.engine import recompute
from training.engine.cadence import is_due, times_left
from training.engine.checkpoint import TrainState
from training.engine.control import INTERRUPTING, Control
from training.engine.device import free_memory, is_out_of_memory, memory_mb
from training.engine.dist import World
from training.engine.errors import ConfigurationError, Interrupted, MemoryExhausted, first_line
from training.engine.events import EventSink, Log, Warning
from training.engine.families.base import Parts
from training.engine.hints.hint import Case, Patch, applicable
from training.engine.hints.memory import next_saving
from training.engine.methods.base import Adapter
from training.engine.metrics import MetricsLog
from training.engine.optimizer import Optimizer
from training.engine.progress import ProgressTeller
from training.engine.quantise import installed_kinds
from training.engine.spec import RunSpec, StepPlan
from training.engine.step import StepComputer
from training.engine.training_section import CHECKPOINTING

BAD_STEPS = 3
"""So many steps without a finite gradient in a row mean that something is wrong for good."""
SIGN_OF_LIFE = 10.0
"""Seconds between signs of life within a step or a measurement, which may take minutes on a CPU."""


class Borders(Protocol):
    """Do what happens between steps: the loop knows when, this knows how."""

    def draw(self, step: int, *, lora: bool) -> None:
        """Draw the samples."""

    def save(self, step: int) -> None:
        """Write a checkpoint and an export."""

    def roll_back(self) -> int:
        """Put back the last checkpoint's weights, moments and counters, or the fresh ones; return the step."""

    def is_drawn(self, step: int) -> bool:
        """Tell whether the samples of a step are there; step 0 is the adapter off."""


@dataclasses.dataclass
class TrainingLoop:
    """Run optimizer steps from ``state.step`` to the end of the plan."""

    spec: RunSpec
    plan: StepPlan
    parts: Parts
    adapter: Adapter
    computer: StepComputer
    optimizer: Optimizer
    state: TrainState
    sink: EventSink
    control: Control
    borders: Borders
    clock: Callable[[], float] = time.monotonic
    world: World = dataclasses.field(default_factory=World)

    def __post_init__(self) -> None:
        device = self.parts.device
        self.metrics = MetricsLog(
            self.sink, total_steps=self.plan.total_steps, steps_per_epoch=self.plan.steps_per_epoch,
            memory_mb=lambda: memory_mb(device),
        )  # fmt: skip
        self._alive = ProgressTeller(
            self.sink, self.control, "train", self.state.step, self.plan.total_steps, interval=SIGN_OF_LIFE
        )
        self._saved_at = self.clock()
        self._saved_step = self.state.step
        # Reading a value makes a GPU wait; the CPU has it anyway.
        self._read_every = 1 if device.type == "cpu" else 8
        self._unread: list[tuple[int, Tensor]] = []
        self._bad_run = 0

    def run(self) -> bool:
        """Train to the end (True) or until a request to stop and keep (False); raise Interrupted for the others.

        An interruption may come between any two parts of the work; what is saved is always a whole step.
        """
        try:
            return self._run()
        except Interrupted as interrupted:
            self._keep(interrupted.reason)
            raise

    def _run(self) -> bool:
        state, plan = self.state, self.plan
        baseline = not self.borders.is_drawn(0)
        if state.step:
            self._catch_up()
            baseline = False
        while state.step < plan.total_steps:
            request = self.world.agree_request(self.control.take())
            if request in INTERRUPTING:
                raise Interrupted(str(request))
            if request == "stop":
                self._read_norms()
                self.metrics.tell(state.step, now=True)
                return False
            if request == "checkpoint":
                self._save()
            if state.step == 0:
                self._held_out(0)
            self._one_step()
            if baseline:
                # Drawn with the adapter off, so it shows step 0 although the first step is already made: a person
                # who waits sees the run move before the slower pictures come.
                self._draw(0, lora=False)
                baseline = False
            self._finish_step()
        self._read_norms()
        self.metrics.tell(state.step, now=True)
        return True

    def _catch_up(self) -> None:
        """Draw what an attempt before did not come to: the base model's samples, and those of the step it saved."""
        step = self.state.step
        if not self.borders.is_drawn(0):
            self._draw(0, lora=False)
        if self._is_sampled(step) and not self.borders.is_drawn(step):
            self._sample(step)

    def advance(self) -> None:
        """Make one step and what is due after it."""
        self._one_step()
        self._finish_step()

    def _finish_step(self) -> None:
        self._borders()
        self.metrics.tell(self.state.step, drawings_left=self._drawings_left())

    # -- one step ---------------------------------------------------------------------------------------------------

    def _one_step(self) -> None:
        state = self.state
        start = self.clock()
        self.optimizer.zero_grad()
        loss = self._gradients(state.step)
        norm = self.optimizer.clip()
        self.optimizer.step(state.step, norm, state.learning_rate_scale)
        rate = self.optimizer.learning_rate(state.step, state.learning_rate_scale)
        state.step += 1
        seconds = self.clock() - start
        state.seconds += seconds
        self.metrics.took(seconds)
        for name, value in (("loss", loss), ("learning_rate", rate), ("grad_norm", norm)):
            self.metrics.add(name, state.step, value)
        self._unread.append((state.step, norm))
        if state.step % self._read_every == 0:
            self._read_norms()

    def _gradients(self, step: int) -> Tensor:
        """Compute a step's gradients; when memory runs out, do the same step again in smaller parts."""
        while True:
            problem: str | None = None
            try:
                loss = self.computer.backward(step, self.state.micro_batch, self._within_step)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                problem = first_line(error)
            # One process that runs out of memory has all of them do the step again, in the same smaller parts.
            if not self.world.any(problem is not None):
                return self.world.add_up(self.optimizer.parameters, loss)
            problem = problem or "another GPU ran out of memory"
            # Here the traceback, which held the tensors, is gone.
            self.optimizer.zero_grad()
            free_memory(self.parts.device)
            self._make_smaller(problem)

    def _make_smaller(self, problem: str) -> None:
        state = self.state
        if state.micro_batch > 1:
            state.micro_batch //= 2
            self.sink.emit(Warning(
                "out_of_memory_retry",
                f"Memory ran out; pictures are now computed {state.micro_batch} at a time, with the same result.",
                hint="Nothing needs to be done. A smaller batch size avoids the retry.",
                patch={"/training/batch_size": state.micro_batch},
            ))  # fmt: skip
            return
        for level in CHECKPOINTING[CHECKPOINTING.index(state.gradient_checkpointing) + 1 :]:
            if not recompute.set_level(self.parts.denoiser, level):
                break
            state.gradient_checkpointing = level
            share = "all" if level == "all" else "every other one"
            self.sink.emit(Warning(
                "out_of_memory_checkpointing",
                f"Memory ran out; of the model's blocks {share} is now computed twice: slower, with the same result.",
                hint="Choose this level of gradient checkpointing from the start.",
                patch={"/training/gradient_checkpointing": level},
            ))  # fmt: skip
            return
        patch = self._next_saving()
        half = patch.get("/training/resolution")
        advice = f"Train at {half} pixels" if half else "Let the base model be made smaller" if patch else ""
        raise MemoryExhausted(
            "out_of_memory", f"The run does not fit this device: {problem}",
            hint=f"{advice}, or choose a worker with more memory." if advice else "Choose a worker with more memory.",
            patch={**patch, "/training/gradient_checkpointing": "all"},
        )  # fmt: skip

    def _next_saving(self) -> Patch:
        """Return the change that saves memory beside what was tried and what this machine cannot do."""
        spec = self.spec
        training = dataclasses.replace(spec.training, batch_size=1, gradient_checkpointing="all")
        if self.parts.device.type == "cpu":
            training = dataclasses.replace(training, offload="auto")
        base = spec.base_model if installed_kinds() else dataclasses.replace(spec.base_model, quantise="auto")
        saving = next_saving(Case("", dataclasses.replace(spec, training=training, base_model=base)))
        return applicable(saving, spec) or {}

    # -- values that are not finite ---------------------------------------------------------------------------------

    def _read_norms(self) -> None:
        """Look at the gradient norms since the last look; the optimizer has already left bad steps out."""
        unread, self._unread = self._unread, []
        for step, norm in unread:
            if bool(torch.isfinite(norm)):
                self._bad_run = 0
                continue
            self._bad_run += 1
            self.state.skipped_steps += 1
            self.sink.emit(Warning(
                "not_finite", f"Step {step} gave no finite gradient and was left out.",
                hint="A few such steps do no harm.",
            ))  # fmt: skip
            if self._bad_run >= BAD_STEPS:
                self._recover()
                return

    def _recover(self) -> None:
        """Go back to the last checkpoint with half the learning rate, once; then give up with advice."""
        self._bad_run = 0
        state = self.state
        lower = self.spec.training.learning_rate / 4
        if state.rollbacks:
            raise ConfigurationError(
                "diverged", f"Training diverged twice, at last before step {state.step}.",
                hint="The learning rate is too high for this set. Lower it and start again.",
                patch={"/training/learning_rate": lower},
            )  # fmt: skip
        rollbacks, skipped = state.rollbacks + 1, state.skipped_steps
        back = self.borders.roll_back()
        state.rollbacks, state.skipped_steps = rollbacks, skipped
        state.learning_rate_scale = 0.5
        self.sink.emit(Warning(
            "rolled_back",
            f"Three steps in a row had no finite gradient; back to step {back} at half the learning rate.",
            hint="If it happens again the run ends; a lower learning rate avoids it.",
            patch={"/training/learning_rate": self.spec.training.learning_rate / 2},
        ))  # fmt: skip

    # -- borders ----------------------------------------------------------------------------------------------------

    def _borders(self) -> None:
        step, cadence = self.state.step, self.spec.checkpoint
        if self._is_sampled(step):
            self._sample(step)
        minutes = cadence.every_minutes
        late = minutes is not None and bool(self.world.agree(self.clock() - self._saved_at > 60 * minutes))
        if late or is_due(step, self.plan, cadence.every_steps, cadence.every_epochs):
            self._save()

    def _is_sampled(self, step: int) -> bool:
        sampling = self.spec.sampling
        return is_due(step, self.plan, sampling.every_steps, sampling.every_epochs)

    def _sample(self, step: int) -> None:
        """Measure on the held-out pictures and draw the prompts."""
        self._held_out(step)
        if self.spec.sampling.prompts:
            self._draw(step, lora=True)

    def _drawings_left(self) -> int:
        sampling = self.spec.sampling
        if not sampling.prompts:
            return 0
        return times_left(self.state.step, self.plan, sampling.every_steps, sampling.every_epochs)

    def _held_out(self, step: int) -> None:
        micro_batch = self.state.micro_batch
        with self.optimizer.averaged():
            loss = self.world.lead(lambda: self.computer.held_out_loss(micro_batch, self._still_here))
        if loss is not None:
            self.metrics.add("held_out_loss", step, loss)

    def _draw(self, step: int, *, lora: bool) -> None:
        self.optimizer.zero_grad()
        start = self.clock()
        self.metrics.tell(self.state.step, drawings_left=self._drawings_left(), now=True)
        self.borders.draw(step, lora=lora)
        self.metrics.drawing_seconds = self.clock() - start

    def _save(self) -> None:
        self._read_norms()
        self.metrics.tell(self.state.step, drawings_left=self._drawings_left(), now=True)
        self.borders.save(self.state.step)
        self._saved_at = self.clock()
        self._saved_step = self.state.step

    def _still_here(self, done: int, total: int) -> None:
        """Give a sign of life between the parts of a step or of a measurement, and let a request end it."""
        self._alive(self.state.step, self.plan.total_steps)

    def _within_step(self, done: int, total: int) -> None:
        """Give a sign of life; a request ends the step at once only where no other process counts on it."""
        if self.world.size == 1:
            self._still_here(done, total)
        else:
            self._alive.note(self.state.step, self.plan.total_steps)

    def _keep(self, reason: str) -> None:
        """Save the last whole step before an interruption, unless nobody wants it."""
        self._read_norms()
        self.metrics.tell(self.state.step, now=True)
        if reason != "cancel" and self._saved_step != self.state.step:
            self.sink.emit(Log("info", f"Saving at step {self.state.step} before the interruption."))
            self.borders.save(self.state.step)
