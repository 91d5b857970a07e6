# ruff: noqa: E501 - a table reads better with its patterns whole
"""Known failures: how they are recognised, what they mean, what to do, and which change of the spec does it."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from training.engine.errors import Category, EngineError, ExitCode
from training.engine.fields import gettext_noop as _


@dataclasses.dataclass(frozen=True, slots=True)
class Hint:
    """Be one known failure; ``pattern`` is searched in "ExceptionName: message"."""

    code: str
    pattern: str
    category: Category
    exit_code: ExitCode
    text: str
    fix: str
    patch: dict[str, Any] | None = None


HINTS: tuple[Hint, ...] = (
    Hint("out_of_memory", r"out of memory|OutOfMemoryError|MemoryError|can't allocate memory", "capacity",
         ExitCode.MEMORY, _("The run does not fit into the memory of the device."),
         _("Halve the batch size and turn gradient checkpointing on, or choose a worker with more memory."),
         {"/training/batch_size": 1, "/training/gradient_checkpointing": "all"}),
    Hint("disk_full", r"No space left on device|Errno 28|disk quota", "platform", ExitCode.DISK,
         _("The disk is full."),
         _("Free some space on the worker, then resume; nothing before the last checkpoint is lost.")),
    Hint("read_only", r"Read-only file system|Errno 30|Permission denied|Errno 13", "platform", ExitCode.DISK,
         _("A folder of the run cannot be written."),
         _("Give the worker write access to its run and cache folders.")),
    Hint("io_error", r"Input/output error|Errno 5\b|Stale file handle", "platform", ExitCode.DISK,
         _("The disk failed to read or write."), _("Check the disk of the worker, then resume.")),
    Hint("wrong_family", r"size mismatch for|Cannot load .* because .* expected shape|mat1 and mat2 shapes cannot be multiplied",
         "user", ExitCode.CONFIGURATION, _("The base model has another architecture than the chosen family."),
         _("Choose the family that belongs to this base model.")),
    Hint("base_model_damaged", r"SafetensorError|InvalidHeader|incomplete metadata|MetadataIncompleteBuffer", "platform",
         ExitCode.DATA, _("A weight file is damaged or cut short."), _("Install the base model again.")),
    Hint("pickle_refused", r"(does not appear to have|no file named|Could not find).*safetensors|\.bin\b.*safetensors|\.ckpt",
         "user", ExitCode.CONFIGURATION,
         _("The base model has no safetensors weights; pickled weights are never loaded."),
         _("Convert the model to safetensors and install it again.")),
    Hint("no_file", r"No such file or directory|Errno 2\b|FileNotFoundError", "platform", ExitCode.DATA,
         _("A file the run needs has gone."),
         _("Check that pictures and base model are still on the worker.")),
    Hint("base_model_config", r"model_index\.json|scheduler_config\.json|config\.json", "user", ExitCode.CONFIGURATION,
         _("A configuration file of the base model is missing or wrong."),
         _("Install the base model again in diffusers layout.")),
    Hint("image_unreadable", r"cannot identify image file|image file is truncated|broken data stream|UnidentifiedImageError",
         "user", ExitCode.DATA, _("A picture cannot be read."),
         _("Remove the damaged picture from the set.")),
    Hint("image_too_large", r"DecompressionBomb", "user", ExitCode.DATA, _("A picture has too many pixels."),
         _("Scale the picture down to 8000 pixels a side.")),
    Hint("latent_not_finite", r"latent.*not finite|NaN.*(vae|latent)", "user", ExitCode.DATA,
         _("The base model's image encoder gives no finite numbers."),
         _("Use a base model with a repaired VAE, or train in fp32."), {"/training/precision": "fp32"}),
    Hint("diverged", r"diverged|loss is nan|not finite", "user", ExitCode.CONFIGURATION,
         _("Training diverged: the numbers grew without bound."),
         _("Lower the learning rate to a quarter and start again.")),
    Hint("cuda_driver", r"CUDA driver version is insufficient|no CUDA-capable device|Found no NVIDIA driver", "platform",
         ExitCode.INTERNAL, _("The GPU driver does not fit this build of PyTorch."),
         _("Update the driver of the worker, or install a PyTorch built for it.")),
    Hint("cuda_kernel", r"no kernel image is available", "platform", ExitCode.INTERNAL,
         _("This build of PyTorch was not made for this GPU."),
         _("Install a PyTorch built for the GPU's generation.")),
    Hint("cuda_lost", r"device-side assert|illegal memory access|uncorrectable ECC|Xid|GPU is lost|unspecified launch failure",
         "platform", ExitCode.INTERNAL, _("The GPU failed."),
         _("The run is resumed by itself; if it repeats, restart the worker.")),
    Hint("cuda_version", r"CUBLAS_STATUS|CUDNN_STATUS", "platform", ExitCode.INTERNAL,
         _("A GPU library failed, often because memory is nearly full."),
         _("Lower the batch size; if it repeats, restart the worker."), {"/training/batch_size": 1}),
    Hint("bf16_unsupported", r"bfloat16.*(not supported|not implemented)|not implemented for 'BFloat16'", "user",
         ExitCode.CONFIGURATION, _("This device cannot compute in bf16."), _("Train in fp32."),
         {"/training/precision": "fp32"}),
    Hint("no_target_modules", r"[Tt]arget modules? .*not found|no layer of the", "user", ExitCode.CONFIGURATION,
         _("No layer of the base model matches the chosen set of layers."), _("Choose the set 'attn'."),
         {"/method/targets": "attn"}),
    Hint("too_many_files", r"Too many open files|Errno 24", "platform", ExitCode.INTERNAL,
         _("The worker may not open enough files."), _("Raise the limit of open files (ulimit -n) to 4096.")),
    Hint("missing_module", r"ModuleNotFoundError|ImportError", "platform", ExitCode.INTERNAL,
         _("A part of the engine is not installed on this worker."),
         _("Install the worker's requirements again.")),
)  # fmt: skip


def find(error: BaseException) -> Hint | None:
    """Return the first known failure that an exception is, or None."""
    text = f"{type(error).__name__}: {error}"
    return next((hint for hint in HINTS if re.search(hint.pattern, text, re.IGNORECASE)), None)


def explain(error: BaseException) -> EngineError:
    """Turn any exception into one with code, category, advice and exit code."""
    if isinstance(error, EngineError):
        return error
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    hint = find(error)
    if hint is None:
        return EngineError(
            "internal", f"{type(error).__name__}: {first}", hint=_("The log has the details; try again.")
        )
    known = _KnownFailure(hint.code, f"{hint.text} ({first})", hint=hint.fix, patch=hint.patch)
    known.exit_code, known.category = hint.exit_code, hint.category  # type: ignore[misc]
    return known


class _KnownFailure(EngineError):
    """Carry a hint's category and exit code."""
