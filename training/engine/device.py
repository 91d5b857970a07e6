"""The device a run computes on: which, in which precision, with how many threads, and how much memory it took."""

from __future__ import annotations

import math
import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

# What is made once, at the first step, takes about 0.1 s: beside this many seconds it does not count.
NOTICEABLE = 1.0


def pick_device() -> torch.device:
    """Return the first CUDA device, else the CPU."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def pick_precision(wanted: str, device: torch.device) -> str:
    """Resolve ``auto``: bf16 where the GPU computes it, fp32 elsewhere."""
    if wanted != "auto":
        return wanted
    return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"


def weights_dtype(precision: str) -> torch.dtype:
    """Return the type of the frozen denoiser's weights."""
    return torch.bfloat16 if precision == "bf16" else torch.float32


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Return the context that forward passes run in."""
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def memory_mb(device: torch.device) -> int:
    """Return the peak memory so far: of the GPU, or of this process on the CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device) // 2**20)
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


def available_cpus() -> int:
    """Return how many CPUs this process may use."""
    return len(os.sched_getaffinity(0))


def choose_threads(
    losses: Callable[[], Tensor], *, most: int | None = None, clock: Callable[[], float] = time.perf_counter
) -> int:
    """Time ``losses`` and its backward pass with one thread and with all, and return the faster number.

    More threads are often slower on a busy machine: on two cores with load 3-5 a step of a small UNet took 13 s
    with two threads and 1 s with one. So it is measured, never assumed.
    """
    most = most or available_cpus()
    if most == 1:
        return 1

    def seconds(threads: int, limit: float = math.inf) -> float:
        """Return how long it takes; after the forward pass it is given up if that alone took over ``limit``."""
        torch.set_num_threads(threads)
        start = clock()
        loss = losses().sum()
        if clock() - start <= limit:
            loss.backward()
        return clock() - start

    alone = seconds(1)
    if alone < NOTICEABLE:
        alone = seconds(1)
    return 1 if alone <= 1.1 * seconds(most, limit=alone / 1.1) else most


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an exception means that memory ran out, on whichever device."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)


def free_memory(device: torch.device) -> None:
    """Give cached memory back; call it outside of the ``except`` block whose traceback holds the tensors."""
    import gc

    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


class Portions:
    """Compute many things a few at a time, and fewer for good once memory ran out."""

    def __init__(self, size: int, device: torch.device) -> None:
        self.size = size
        self._device = device

    def each(self, count: int, compute: Callable[[slice], T]) -> Iterator[T]:
        """Yield ``compute(part)`` for consecutive parts that cover ``range(count)``.

        A part that does not fit the memory is computed again in halves; one thing that does not fit is an error.
        """
        start = 0
        while start < count:
            part = slice(start, min(start + self.size, count))
            try:
                result = compute(part)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or self.size == 1:
                    raise
            else:
                start = part.stop
                yield result
                continue
            # Here the traceback, which held the tensors, is gone.
            self.size //= 2
            free_memory(self._device)
