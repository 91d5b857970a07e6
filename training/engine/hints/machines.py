# ruff: noqa: E501 - a table reads better with its patterns whole
"""Failures of GPUs, drivers and what is installed on a worker."""

from __future__ import annotations

from training.engine.errors import ExitCode
from training.engine.fields import gettext_noop as _
from training.engine.hints.hint import Case, Hint, Patch


def without_bitsandbytes(case: Case) -> Patch | None:
    """Return the settings that do without: a base model as it is, the optimizer with whole numbers."""
    assert case.spec is not None
    patch: Patch = {}
    if case.spec.base_model.quantise == "nf4":
        patch["/base_model/quantise"] = "none"
    if case.spec.training.optimizer == "adamw-8bit":
        patch["/training/optimizer"] = "adamw"
    return patch or None


def without_torchao(case: Case) -> Patch | None:
    """Return a base model as it is, where int8 was wanted."""
    assert case.spec is not None
    return {"/base_model/quantise": "none"} if case.spec.base_model.quantise == "int8" else None


def without_compiling(case: Case) -> Patch | None:
    """Return the compiler switched off, where it was on."""
    assert case.spec is not None
    return {"/training/compile": "off"} if case.spec.training.compile != "off" else None


HINTS: tuple[Hint, ...] = (
    Hint("cuda_driver", r"driver version is insufficient|NVIDIA driver on your system is too old|unsupported toolchain|forward compatibility was attempted|cudaErrorInsufficientDriver", "platform",
         ExitCode.INTERNAL, _("The GPU driver does not fit this build of PyTorch."),
         _("Update the driver of the worker, or install a PyTorch built for it.")),
    Hint("no_gpu", r"no CUDA-capable device|Found no NVIDIA driver|Torch not compiled with CUDA|CUDA unknown error|cudaErrorNoDevice|No CUDA GPUs are available|No HIP GPUs are available", "platform",
         ExitCode.INTERNAL, _("The worker sees no GPU."),
         _("Check nvidia-smi; give a container its GPUs (--gpus all), and install a PyTorch built for CUDA, not for the CPU.")),
    Hint("cuda_kernel", r"no kernel image is available|sm_\d+ is not compatible|invalid device function", "platform", ExitCode.INTERNAL,
         _("This build of PyTorch was not made for this GPU."),
         _("Install a PyTorch built for the GPU's generation.")),
    Hint("gpu_busy", r"devices? (is|are|\(s\) is/are) busy|all CUDA-capable devices are busy|exclusive.?process", "platform", ExitCode.INTERNAL,
         _("Another program holds the GPU for itself alone."),
         _("End the other program, or set the GPU's compute mode back (nvidia-smi -c DEFAULT).")),
    Hint("cuda_lost", r"device-side assert|illegal memory access|uncorrectable ECC|\bXid\b|GPU is lost|fallen off the bus|unspecified launch failure|misaligned address", "platform",
         ExitCode.INTERNAL, _("The GPU failed."),
         _("The run is resumed by itself; if it repeats, restart the worker.")),
    Hint("devices_mixed", r"Expected all tensors to be on the same device", "platform", ExitCode.INTERNAL,
         _("A part of the model was left on another device."), _("Report it as a fault of this model family.")),
    Hint("attention_unsupported", r"No available kernel|No operator found for .memory_efficient_attention|FlashAttention only supports|flash_attn.*(undefined symbol|requires)", "platform",
         ExitCode.INTERNAL, _("No attention kernel runs on this GPU with these settings."),
         _("Remove xformers and flash-attn from the worker: PyTorch's own attention needs neither.")),
    Hint("bitsandbytes_missing", r"bitsandbytes", "platform", ExitCode.INTERNAL,
         _("bitsandbytes is not installed, or not made for this GPU."),
         _("Install the extra 'gpu' on the worker (requirements/gpu.txt), or do without nf4 and 8-bit optimizers."),
         None, without_bitsandbytes),
    Hint("torchao_missing", r"torchao", "platform", ExitCode.INTERNAL,
         _("torchao is not installed, or does not fit the version of PyTorch."),
         _("Install the extra 'gpu' on the worker (requirements/gpu.txt), or train without int8 weights."),
         None, without_torchao),
    Hint("compiler_missing", r"InvalidCxxCompiler|Failed to find (a )?(working )?(C|C\+\+) compiler|No working C\+\+ compiler|cannot find -lcuda|Python\.h: No such file|'(gcc|g\+\+|cc|clang)'", "platform",
         ExitCode.INTERNAL, _("Compiling needs a C compiler and Python's headers, which the worker lacks."),
         _("Install gcc and python3-dev on the worker, or train without compiling."), {"/training/compile": "off"}, without_compiling),
    Hint("triton_missing", r"No module named 'triton'|working triton installation|TritonMissing|TritonUnavailable", "platform", ExitCode.INTERNAL,
         _("Compiling needs Triton, which is not installed."), _("Install triton on the worker, or train without compiling."),
         {"/training/compile": "off"}, without_compiling),
    Hint("compile_failed", r"torch\._dynamo|BackendCompilerFailed|InductorError|InternalTorchDynamoError|FailOnRecompileLimitHit|torch\._inductor", "platform",
         ExitCode.INTERNAL, _("The model could not be compiled on this worker."), _("Train without compiling; only speed is lost."),
         {"/training/compile": "off"}, without_compiling),
    Hint("gpu_library_missing", r"lib(cudart|cudnn|cublas|cublasLt|nvrtc|nccl|cusparse|curand|cufft|hip\w*)[\w.-]*\.so[\w.]*: cannot open|Could not load (library|symbol) lib(cudnn|nvrtc)|Unable to load any of \{?lib", "platform",
         ExitCode.INTERNAL, _("A GPU library is missing or was replaced by another version."),
         _("Install the worker's requirements again; unset LD_LIBRARY_PATH if it names another CUDA.")),
    Hint("system_too_old", r"GLIBC(XX)?_[\d.]+. not found|version .GLIBC", "platform", ExitCode.INTERNAL,
         _("The worker's operating system is older than its packages need."),
         _("Use the container image, or a newer system (Ubuntu 22.04, Debian 12).")),
    Hint("numpy_mismatch", r"numpy\.(dtype|ufunc) size changed|compiled using NumPy 1|numpy\.core\.multiarray failed|_ARRAY_API not found", "platform",
         ExitCode.INTERNAL, _("A package was built for another version of NumPy."), _("Install the worker's requirements again, all of them.")),
    Hint("libraries_mismatched", r"undefined symbol|cannot import name|partially initialized module|is required for a normal functioning|but found \w+==", "platform",
         ExitCode.INTERNAL, _("Two packages on the worker do not fit together."),
         _("Install the worker's requirements again with their exact versions (bin/setup).")),
    Hint("missing_module", r"ModuleNotFoundError|ImportError|No package metadata was found", "platform", ExitCode.INTERNAL,
         _("A part of the engine is not installed on this worker."),
         _("Install the worker's requirements again.")),
)  # fmt: skip
