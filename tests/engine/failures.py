# ruff: noqa: E501 - messages stand as they are said
"""What libraries really say when a known failure happens, by the code of its hint."""

from __future__ import annotations

import errno
import os


def named(name: str, message: str, base: type[Exception] = Exception) -> Exception:
    """Build an exception of a class that another library has."""
    return type(name, (base,), {})(message)


def system(number: int, path: str = "/run/x") -> OSError:
    """Build what the system says."""
    return OSError(number, os.strerror(number), path)


def decoding() -> UnicodeDecodeError:
    try:
        b"\xff\xfe".decode()
    except UnicodeDecodeError as error:
        return error
    raise AssertionError


SAFETENSORS = "Error while deserializing header: "

FAILURES: dict[str, list[BaseException]] = {
    # -- memory
    "out_of_memory": [
        RuntimeError("CUDA out of memory. Tried to allocate 512 MiB"),
        named("OutOfMemoryError", "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of "
              "7.79 GiB of which 1.20 GiB is free.", RuntimeError),
        RuntimeError("MPS backend out of memory (MPS allocated: 17.9 GB, other allocations: 96 MB)"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
    "out_of_host_memory": [
        MemoryError(), RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate "
                                    "memory: you tried to allocate 40000000000 bytes."),
        system(errno.ENOMEM), MemoryError("Unable to allocate 7.11 PiB for an array with shape (1000,)"),
    ],
    "shared_memory_full": [
        RuntimeError("DataLoader worker (pid 12) is killed by signal: Bus error. It is possible that dataloader's "
                     "workers are out of shared memory. Please try to raise your shared memory limit."),
        RuntimeError("unable to write to file </torch_1234_0>: No space left on device (28); shm_open failed"),
        named("DistBackendError", "Error while creating shared memory segment /dev/shm/nccl-Kq2LpT (size 963)",
              RuntimeError),
    ],
    "index_too_large": [
        RuntimeError("Expected canUse32BitIndexMath(input) && canUse32BitIndexMath(output) to be true"),
    ],
    "cuda_version": [
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"),
    ],
    # -- disk and limits
    "disk_full": [OSError(errno.ENOSPC, "No space left on device"),
                  named("SafetensorError", "Error while serializing: I/O error: No space left on device (os error 28)")],
    "disk_quota": [system(errno.EDQUOT)],
    "read_only": [system(errno.EROFS)],
    "permission_denied": [system(errno.EACCES), PermissionError(errno.EPERM, "Operation not permitted")],
    "network_disk_lost": [system(errno.ESTALE), system(errno.ENOTCONN)],
    "io_error": [system(errno.EIO)],
    "too_many_files": [system(errno.EMFILE), RuntimeError("unable to open file: Too many open files (24)")],
    "too_many_threads": [RuntimeError("can't start new thread"), system(errno.EAGAIN)],
    "name_too_long": [system(errno.ENAMETOOLONG)],
    "name_not_unicode": [UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed")],
    "not_a_folder": [system(errno.ENOTDIR, "/models/sdxl.safetensors/unet")],
    "is_a_folder": [system(errno.EISDIR)],
    "no_file": [FileNotFoundError(errno.ENOENT, "No such file or directory", "/x/a.png")],
    # -- base models and the hub
    "wrong_family": [
        RuntimeError("Error(s) in loading state_dict: size mismatch for conv_in.weight"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (77x1024 and 768x320)"),
        ValueError("Cannot load  because down_blocks.0.attn2.to_k.weight expected shape torch.Size([320, 768]), but got "
                   "torch.Size([320, 1024])."),
    ],
    "lora_of_another_base": [
        ValueError("Invalid LoRA checkpoint. Make sure all LoRA param names contain 'lora' substring."),
        RuntimeError("size mismatch for to_q.lora_A.default.weight: copying a param with shape torch.Size([16, 768])"),
        ValueError("the saved adapter has other layers: 64 differ, first 'denoiser.a.lora_A.weight'"),
    ],
    "not_weights": [named("SafetensorError", SAFETENSORS + "header too large"),
                    named("SafetensorError", SAFETENSORS + "header too small"),
                    named("SafetensorError", SAFETENSORS + "invalid header length")],
    "base_model_damaged": [named("SafetensorError", SAFETENSORS + "incomplete metadata, file not fully covered")],
    "weights_incomplete": [
        OSError("/m does not appear to have files named ('model-00002-of-00004.safetensors',)."),
    ],
    "variant_missing": [
        OSError("Error no file named diffusion_pytorch_model.fp16.bin found in directory /m/unet."),
        ValueError("You are trying to load the model files of the `variant=fp16`, but no such modeling files are available."),
    ],
    "base_model_gated": [
        named("GatedRepoError", "401 Client Error. Cannot access gated repo for url https://huggingface.co/x.", OSError),
        OSError("You are trying to access a gated repo. Access to model black-forest-labs/FLUX.1-dev is restricted."),
        named("HfHubHTTPError", "403 Forbidden: Please enable access to public gated repositories.", OSError),
    ],
    "base_model_not_found": [
        named("RepositoryNotFoundError", "404 Client Error. Repository Not Found for url", OSError),
        OSError("some/where is not a local folder and is not a valid model identifier listed on 'https://huggingface.co'"),
    ],
    "hub_busy": [named("HfHubHTTPError", "429 Client Error: Too Many Requests for url", OSError),
                 named("HfHubHTTPError", "503 Server Error: Service Unavailable for url", OSError)],
    "hub_unreachable": [
        OSError("We couldn't connect to 'https://huggingface.co' to load the files, and couldn't find them in the cached "
                "files."),
        named("LocalEntryNotFoundError", "Cannot find the requested files in the disk cache and outgoing traffic has been "
              "disabled."),
        named("ConnectionError", "Max retries exceeded with url: /api/models/x (Temporary failure in name resolution)", OSError),
    ],
    "remote_code": [ValueError("The repository x contains custom code. Please pass the argument `trust_remote_code=True`")],
    "model_too_new": [
        ValueError("The checkpoint you are trying to load has model type `qwen99` but Transformers does not recognize this "
                   "architecture."),
        AttributeError("module 'diffusers' has no attribute 'Flux3Transformer2DModel'"),
    ],
    "tokenizer_library_missing": [
        ImportError("T5Tokenizer requires the SentencePiece library but it was not found in your environment."),
    ],
    "tokenizer_missing": [
        OSError("Can't load tokenizer for '/m/tokenizer'. If you were trying to load it from the hub"),
        ValueError("Couldn't instantiate the backend tokenizer from one of: (1) a `tokenizers` library serialization file"),
    ],
    "tokenizer_mismatch": [IndexError("index out of range in self"),
                           RuntimeError("Indexing.cu:1231: Assertion `srcIndex < srcSelectDimSize` failed.")],
    "pickle_refused": [
        OSError("Error no file named diffusion_pytorch_model.safetensors found"),
        OSError("Error no file named model.safetensors, or pytorch_model.bin, found in directory /m/text_encoder."),
        named("UnpicklingError", "Weights only load failed. Unsupported global: GLOBAL getattr. weights_only=True"),
    ],
    "base_model_config": [
        OSError("Error no file named model_index.json found in directory /m."),
        OSError("It looks like the config file at '/m/unet/config.json' is not a valid JSON file."),
    ],
    # -- pictures and captions
    "image_format_unknown": [named("UnidentifiedImageError", "cannot identify image file '/set/IMG_1.HEIC'", OSError)],
    "image_unreadable": [OSError("image file is truncated (12 bytes not processed)"),
                         named("UnidentifiedImageError", "cannot identify image file '/set/a.png'", OSError)],
    "image_too_large": [named("DecompressionBombError", "Image size (400000000 pixels) exceeds limit of 178956970 pixels")],
    "text_not_utf8": [decoding()],
    "latent_not_finite": [ValueError("NaN detected in latents of a.png after the VAE"), ValueError("latents are not finite")],
    "sizes_mixed": [RuntimeError("stack expects each tensor to be equal size, but got [2, 3] at entry 0 and [2, 4] at entry 1")],
    # -- recipe
    "diverged": [ValueError("loss is nan"), FloatingPointError("gradient not finite")],
    "fp8_unsupported": [NotImplementedError("\"GeluKernelImpl\" not implemented for 'Float8_e4m3fn'"),
                        RuntimeError("torch._scaled_mm is only supported on CUDA devices with compute capability >= 9.0")],
    "bf16_unsupported": [RuntimeError("\"addmm_impl_cpu_\" not implemented for 'BFloat16'"),
                         TypeError("BFloat16 is not supported on MPS: bfloat16 not supported")],
    "number_formats_mixed": [RuntimeError("mat1 and mat2 must have the same dtype, but got BFloat16 and Float"),
                             RuntimeError("Input type (c10::BFloat16) and bias type (float) should be the same"),
                             RuntimeError("expected scalar type Half but found Float")],
    "layers_unsupported": [ValueError("Target module GroupNorm(4, 8) is not supported. Currently, only the following modules "
                                      "are supported: `torch.nn.Linear`")],
    "no_target_modules": [named("NoMatchingPeftModuleError", "Target modules {'zzz'} not found in the base model.", ValueError)],
    "nothing_to_train": [RuntimeError("element 0 of tensors does not require grad and does not have a grad_fn")],
    "resolution_unfit": [
        RuntimeError("The size of tensor a (63) must match the size of tensor b (64) at non-singleton dimension 3"),
        RuntimeError("Sizes of tensors must match except in dimension 1. Expected size 3 but got size 4"),
        ValueError("`height` and `width` have to be divisible by 16 but are 520 and 520."),
    ],
    # -- machines
    "cuda_driver": [RuntimeError("CUDA driver version is insufficient for CUDA runtime version"),
                    RuntimeError("The NVIDIA driver on your system is too old (found version 11040)."),
                    RuntimeError("CUDA error: the provided PTX was compiled with an unsupported toolchain.")],
    "no_gpu": [AssertionError("Torch not compiled with CUDA enabled"), RuntimeError("No CUDA GPUs are available"),
               RuntimeError("Found no NVIDIA driver on your system.")],
    "cuda_kernel": [RuntimeError("CUDA error: no kernel image is available for execution on the device"),
                    RuntimeError("NVIDIA GeForce RTX 5090 with CUDA capability sm_120 is not compatible")],
    "gpu_busy": [RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable")],
    "cuda_lost": [RuntimeError("CUDA error: device-side assert triggered"),
                  RuntimeError("CUDA error: an illegal memory access was encountered"),
                  RuntimeError("CUDA error: uncorrectable ECC error encountered")],
    "devices_mixed": [RuntimeError("Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!")],
    "attention_unsupported": [RuntimeError("No available kernel. Aborting execution."),
                              NotImplementedError("No operator found for `memory_efficient_attention_forward` with inputs")],
    "bitsandbytes_missing": [ImportError("Using `bitsandbytes` 4-bit quantization requires bitsandbytes: `pip install -U "
                                         "bitsandbytes>=0.46.1`"),
                             ModuleNotFoundError("No module named 'bitsandbytes'")],
    "torchao_missing": [ModuleNotFoundError("No module named 'torchao'"),
                        ImportError("cannot import name 'int8_weight_only' from 'torchao.quantization'")],
    "triton_missing": [ModuleNotFoundError("No module named 'triton'"),
                       RuntimeError("Cannot find a working triton installation.")],
    "compiler_missing": [RuntimeError("Failed to find C compiler. Please specify via CC environment variable."),
                         named("InvalidCxxCompiler", "No working C++ compiler found in torch._inductor.config.cpp.cxx")],
    "compile_failed": [named("BackendCompilerFailed", "backend='inductor' raised: SubprocException", RuntimeError),
                       named("Unsupported", "torch._dynamo.exc.Unsupported: call_function")],
    "gpu_library_missing": [ImportError("libcudnn.so.9: cannot open shared object file: No such file or directory"),
                            RuntimeError("Could not load library libcudnn_cnn_infer.so.8.")],
    "system_too_old": [ImportError("/lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.34' not found (required by x.so)")],
    "numpy_mismatch": [ValueError("numpy.dtype size changed, may indicate binary incompatibility."),
                       ImportError("A module that was compiled using NumPy 1.x cannot be run in NumPy 2.1")],
    "libraries_mismatched": [ImportError("cannot import name 'cached_download' from 'huggingface_hub'"),
                             ImportError("/x/_C.so: undefined symbol: _ZN3c104impl"),
                             ImportError("tokenizers>=0.22 is required for a normal functioning of this module")],
    "missing_module": [ModuleNotFoundError("No module named 'peft'")],
    # -- processes
    "port_taken": [named("DistNetworkError", "The server socket has failed to listen on any local network address. port: "
                         "29500, EADDRINUSE", RuntimeError), system(errno.EADDRINUSE)],
    "rendezvous_failed": [named("RendezvousTimeoutError", "timed out"),
                          named("DistStoreError", "Timed out after 601 seconds waiting for clients. 1/2 clients joined.")],
    "nccl_timeout": [RuntimeError("[Rank 1] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=12, "
                                  "OpType=ALLREDUCE) ran for 600023 milliseconds before timing out.")],
    "nccl_failed": [named("DistBackendError", "NCCL error in: ProcessGroupNCCL.cpp:1691, unhandled system error", RuntimeError)],
    "gloo_failed": [RuntimeError("[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer"),
                    RuntimeError("Gloo connectFullMesh failed with [gloo/transport/tcp/pair.cc]")],
    "killed": [named("ChildFailedError", "Root Cause: exitcode  : -9 (pid: 81) Signal 9 (SIGKILL) received by PID 81")],
    "crashed": [named("ChildFailedError", "Root Cause: exitcode  : -11 (pid: 81) Signal 11 (SIGSEGV) received by PID 81")],
    "processor_too_old": [named("ChildFailedError", "Root Cause: exitcode  : -4 (pid: 81) Signal 4 (SIGILL)")],
}  # fmt: skip
