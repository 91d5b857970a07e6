# ruff: noqa: E501 - a table reads better with its patterns whole
"""Failures for want of memory: of the GPU, of the machine, of its shared part."""

from __future__ import annotations

from training.engine.errors import ExitCode
from training.engine.estimate import DeviceProfile, largest_batch
from training.engine.fields import gettext_noop as _
from training.engine.hints.hint import Case, Hint, Patch


def fewer_pictures(case: Case) -> Patch | None:
    """Return the batch that fits the device the text names, or the next thing that saves memory."""
    assert case.spec is not None
    gib = case.number(r"total capacity of ([\d.]+) GiB")
    fitting = largest_batch(case.spec, DeviceProfile("", 1.0, int(gib * 1024))) if gib else 0
    if 0 < fitting < case.spec.training.batch_size:
        return {"/training/batch_size": fitting}
    return next_saving(case)


def next_saving(case: Case) -> Patch | None:
    """Return the first of these that is not done yet, in the order of what it costs.

    Half the batch, full gradient checkpointing, a quantised base model, its weights on the host, half the resolution.
    """
    assert case.spec is not None
    training = case.spec.training
    if training.batch_size > 1:
        return {"/training/batch_size": training.batch_size // 2}
    if training.gradient_checkpointing in ("off", "blocks"):
        return {"/training/gradient_checkpointing": "all"}
    if case.spec.base_model.quantise == "none":
        return {"/base_model/quantise": "auto"}
    if training.offload == "off":
        return {"/training/offload": "auto"}
    half = max(64, training.resolution // 2 // 64 * 64)
    return {"/training/resolution": half} if half < training.resolution else None


def smaller_batch(case: Case) -> Patch | None:
    """Return half the batch, or half the resolution."""
    assert case.spec is not None
    training = case.spec.training
    if training.batch_size > 1:
        return {"/training/batch_size": training.batch_size // 2}
    half = max(64, training.resolution // 2 // 64 * 64)
    return {"/training/resolution": half} if half < training.resolution else None


SMALLEST: Patch = {"/training/batch_size": 1, "/training/gradient_checkpointing": "all"}

HINTS: tuple[Hint, ...] = (
    Hint("shared_memory_full", r"insufficient shared memory|bus error|SIGBUS|/dev/shm|shm_open|(open|write to|mmap).{0,40}shared memory|shared memory.{0,60}No space",
         "platform", ExitCode.INTERNAL, _("The shared memory of the container is too small."),
         _("Start the container with more of it: --shm-size=2g, or --ipc=host.")),
    Hint("out_of_memory", r"(CUDA|HIP|XPU|MPS backend|NPU) out of memory|OutOfMemoryError|CUDA error: out of memory|CUBLAS_STATUS_ALLOC_FAILED",
         "capacity", ExitCode.MEMORY, _("The run does not fit into the memory of the device."),
         _("Compute fewer pictures at once, choose more gradient checkpointing or a quantised base model, or a worker with more memory."),
         SMALLEST, fewer_pictures),
    Hint("out_of_host_memory", r"^MemoryError|ArrayMemoryError|DefaultCPUAllocator|can't allocate memory|Cannot allocate memory|Errno 12\b|std::bad_alloc",
         "capacity", ExitCode.MEMORY, _("The machine has not enough main memory for this run."),
         _("Compute fewer pictures at once, or give the worker more memory or swap: a base model passes through main memory while it is loaded."),
         SMALLEST, next_saving),
    Hint("index_too_large", r"canUse32BitIndexMath|32-?bit index|integer out of range|offset increment outside graph capture|nonzero is not supported for tensors with more than INT_MAX",
         "user", ExitCode.CONFIGURATION, _("A batch has more numbers than the GPU's libraries can count."),
         _("Halve the batch size, or else the resolution."), None, smaller_batch),
    Hint("cuda_version", r"CUBLAS_STATUS|CUDNN_STATUS|CUSOLVER_STATUS|CUSPARSE_STATUS|cuDNN error", "platform",
         ExitCode.INTERNAL, _("A GPU library failed, often because memory is nearly full."),
         _("Lower the batch size; if it repeats, restart the worker."), {"/training/batch_size": 1}, smaller_batch),
)  # fmt: skip
