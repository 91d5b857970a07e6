"""Several processes of one machine that train one LoRA together, each on its part of every step's samples.

``torchrun`` starts them and says in the environment who is who. Each has the whole base model and the whole adapter;
what they exchange at a step is one sum of the adapter's gradients. The first of them, the leader, does everything that
is done once: it fills the caches, draws, measures, saves, exports, tells, and hears what the supervisor wants. The
others wait for it at the same borders, and hear there whether it was interrupted.

A process that ends before its time ends all of them: the others watch it, whatever they are waiting for.
"""

from __future__ import annotations

import datetime
import os
import select
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
import torch.distributed as collectives
from torch import Tensor, nn

from training.engine.control import REQUESTS
from training.engine.errors import EngineError, ExitCode, Interrupted, first_line

T = TypeVar("T")

STEP_SECONDS = 600.0
"""All processes reach a step's exchange at about the same time; one that keeps the others waiting so long is lost."""
# How long the leader may work alone. Its own supervisor sees to it that it does not stand still.
_LEADER = datetime.timedelta(days=1)
# A process that sees another one's end waits so long for its own way to end, which knows more of the cause.
_GRACE = 1.0
# The reasons that the leader may have to be interrupted; 0 is none.
_REASONS = ("", *REQUESTS)


class RankLost(EngineError):
    """Say that another process of this run has ended or does not answer."""

    def __init__(self, detail: str) -> None:
        super().__init__(
            "rank_lost", f"One of the processes of this training has ended or does not answer ({detail}).",
            hint="The run is resumed by itself from the last checkpoint.",
        )  # fmt: skip


class World:
    """Be the processes of a run as one of them sees them; this one is alone, and nothing is exchanged."""

    rank = 0
    size = 1

    @property
    def leads(self) -> bool:
        """Tell whether this process does what is done once."""
        return self.rank == 0

    def has(self, index: int) -> bool:
        """Tell whether a sample of a step, by its index there, is this process's."""
        return index % self.size == self.rank

    def lead(self, work: Callable[[], T]) -> T | None:
        """Do ``work`` in the leader while the others wait, and return its result there, None elsewhere.

        If it is interrupted, all are: raise Interrupted.
        """
        return work()

    def in_turn(self, work: Callable[[], T]) -> T:
        """Do ``work`` in the leader first and then in the others, which find done what can be done once."""
        return work()

    def agree(self, value: int) -> int:
        """Return the leader's ``value``."""
        return value

    def agree_request(self, request: str | None) -> str | None:
        """Return the request that the leader was told."""
        return request

    def any(self, flag: bool) -> bool:
        """Tell whether ``flag`` is set in any process."""
        return flag

    def add_up(self, parameters: Sequence[nn.Parameter], loss: Tensor) -> Tensor:
        """Add up the parameters' gradients over all processes, in place, and return the sum of ``loss``."""
        return loss

    def leave(self) -> bool:
        """Wait for the leader's last word before the end; False if a process is gone that should still be here."""
        return True


class Ranks(World):
    """Be one of several processes. Whatever of it fails raises RankLost."""

    def __init__(self, device: torch.device, on_loss: Callable[[], object]) -> None:
        """Meet the others; ``on_loss`` is called before this process is ended because another one is gone."""
        self.rank, self.size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        self._device = device
        self._on_loss = on_loss
        self._buffer: Tensor | None = None
        self._over = False
        step = datetime.timedelta(seconds=float(os.environ.get("LF_COLLECTIVE_SECONDS", STEP_SECONDS)))
        self._patience = step
        try:
            if device.type == "cuda":
                torch.cuda.set_device(device)
                collectives.init_process_group("nccl", timeout=step, device_id=device)
            else:
                collectives.init_process_group("gloo", timeout=step)
            # Words between processes go over the CPU, so that no GPU waits for them.
            self._step_words = collectives.new_group(backend="gloo", timeout=step)
            self._leader_words = collectives.new_group(backend="gloo", timeout=_LEADER)
            pids: list[int] = [0] * self.size
            collectives.all_gather_object(pids, os.getpid(), group=self._step_words)
            self._others = [os.pidfd_open(pid) for rank, pid in enumerate(pids) if rank != self.rank]
        except (RuntimeError, OSError) as error:
            raise RankLost(first_line(error)) from error
        threading.Thread(target=self._watch, name="ranks", daemon=True).start()

    def lead(self, work: Callable[[], T]) -> T | None:
        """Do ``work`` in the leader while the others wait, and return its result there, None elsewhere."""
        if self.leads:
            try:
                result = work()
            except Interrupted as interrupted:
                self.agree(_REASONS.index(interrupted.reason))
                raise
            self.agree(0)
            return result
        reason = _REASONS[self.agree(0)]
        if reason:
            raise Interrupted(reason)
        return None

    def in_turn(self, work: Callable[[], T]) -> T:
        """Do ``work`` in the leader first and then in the others, which find done what can be done once."""
        result = self.lead(work)
        return result if self.leads else work()  # type: ignore[return-value]

    def agree(self, value: int) -> int:
        """Return the leader's ``value``: the others wait for it as long as it works, it for them as at a step."""
        word = torch.tensor([value])

        def exchange() -> None:
            sent = collectives.broadcast(word, src=0, group=self._leader_words, async_op=True)
            if self.leads:
                sent.wait(self._patience)
            else:
                sent.wait()

        self._exchange(exchange)
        return int(word)

    def agree_request(self, request: str | None) -> str | None:
        """Return the request that the leader was told."""
        return _REASONS[self.agree(_REASONS.index(request or ""))] or None

    def any(self, flag: bool) -> bool:
        """Tell whether ``flag`` is set in any process."""
        word = torch.tensor([int(flag)])
        self._exchange(
            lambda: collectives.all_reduce(word, op=collectives.ReduceOp.MAX, group=self._step_words)
        )
        return bool(word)

    def add_up(self, parameters: Sequence[nn.Parameter], loss: Tensor) -> Tensor:
        """Add up the parameters' gradients over all processes, in place, and return the sum of ``loss``.

        One sum over one buffer, in fp32. A parameter without a gradient here counts as one of zeros.
        """
        if self._buffer is None:
            count = sum(p.numel() for p in parameters)
            self._buffer = torch.zeros(count + 1, dtype=torch.float32, device=self._device)
        buffer = self._buffer
        parts = buffer[:-1].split([p.numel() for p in parameters])
        for p, part in zip(parameters, parts, strict=True):
            if p.grad is None:
                part.zero_()
            else:
                part.copy_(p.grad.reshape(-1))
        buffer[-1] = loss
        self._exchange(lambda: collectives.all_reduce(buffer))
        for p, part in zip(parameters, parts, strict=True):
            p.grad = part.view_as(p)
        return buffer[-1].clone()

    def leave(self) -> bool:
        """Wait for the leader's last word before the end; False if a process is gone that should still be here."""
        self._over = True
        if self._gone(0.0):
            return False
        self.agree(0)
        return True

    def _exchange(self, exchange: Callable[[], object]) -> None:
        try:
            exchange()
        except RuntimeError as error:
            raise RankLost(first_line(error)) from error

    def _gone(self, seconds: float | None) -> bool:
        """Tell whether another process has ended, or ends within so many seconds (None: wait for it)."""
        poll = select.poll()
        for pidfd in self._others:
            poll.register(pidfd, select.POLLIN)
        return bool(poll.poll(None if seconds is None else 1000 * seconds))

    def _watch(self) -> None:
        """End this process when another one has ended: NCCL would have it wait for the dead."""
        self._gone(None)
        time.sleep(_GRACE)
        if self._over:
            return
        try:
            self._on_loss()
        finally:
            os._exit(ExitCode.INTERNAL)


def pick_rank_device() -> torch.device:
    """Return the device of this process of several."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    return torch.device("cpu")


def join(on_loss: Callable[[], object] = lambda: None) -> World:
    """Return the world that ``torchrun`` made for this process, once all are there; without it, this one alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return World()
    return Ranks(pick_rank_device(), on_loss)
