"""Look at everything that training on this machine needs, and say what to do about what is missing.

Each check is a function that yields findings; one that breaks is a failed check, explained by ``hints``, not the end
of the examination. Nothing here imports torch until a check does.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import importlib.metadata
import importlib.util
import os
import re
import resource
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from training.engine import hints, registry
from training.engine.errors import EngineError, first_line
from training.engine.fields import gettext_noop as _

State = Literal["ok", "warning", "failed"]

OLDEST_PYTHON = (3, 11)
REQUIRED = {
    "torch": "2.13", "diffusers": "0.42", "transformers": "5.23", "peft": "0.21", "accelerate": "1.15",
    "safetensors": "0.8", "numpy": "2", "pillow": "13", "pyyaml": "6",
}  # fmt: skip
"""What pyproject.toml asks for, by package; a test holds the two together."""
OPTIONAL = {
    "bitsandbytes": "8-bit optimizers, nf4 weights", "torchao": "int8 weights", "triton": "compiling",
    "prodigyopt": "Prodigy", "sentencepiece": "tokenizers of T5 and Gemma", "pillow_heif": "HEIC pictures",
}  # fmt: skip
"""Packages that add something, by the name they are imported under."""
LEAST_DISK_MB, LEAST_MEMORY_MB, LEAST_SHARED_MB, LEAST_FILES = 2048, 4096, 1024, 1024


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """Say how one thing is, and what to do if it is not well."""

    name: str
    state: State
    detail: str
    fix: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Places:
    """Name the folders that runs will use."""

    run_dir: Path
    cache_dir: Path


Check = Callable[[Places], Iterator[Finding]]


def examine(places: Places, *, quick: bool = False) -> Iterator[Finding]:
    """Run every check, cheap ones first, and yield what was found as soon as it is; ``quick`` trains nothing."""
    for check in CHECKS[:-1] if quick else CHECKS:
        name = check.__name__.removeprefix("check_").replace("_", " ")
        try:
            yield from check(places)
        except Exception as error:
            explained = hints.explain(error)
            yield Finding(name, "failed", str(error).strip() or type(error).__name__, explained.hint or "")


# -- the machine ---------------------------------------------------------------------------------------------------


def check_python(places: Places) -> Iterator[Finding]:
    """Compare the version with the oldest that works."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < OLDEST_PYTHON:
        yield Finding("python", "failed", version, _("Install Python 3.11 or newer."))
    else:
        yield Finding("python", "ok", f"{version} at {sys.prefix}")


def check_memory(places: Places) -> Iterator[Finding]:
    """Ask for the memory that can be taken now, within a container's limit."""
    from training.engine.resident import available_mb

    free = available_mb()
    fix = "" if free >= LEAST_MEMORY_MB else _("End other programs, or raise the container's memory limit.")
    yield Finding("memory", "warning" if fix else "ok", f"{free} MB free", fix)


def check_limits(places: Places) -> Iterator[Finding]:
    """Look at the open files a process may have, and at shared memory, which several GPUs talk through."""
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    fix = "" if files >= LEAST_FILES or files < 0 else _("Raise the limit of open files: ulimit -n 4096.")
    yield Finding("open files", "warning" if fix else "ok", f"{files} of at most {most}", fix)
    shared = Path("/dev") / "shm"
    if not shared.is_dir():
        return
    size = shutil.disk_usage(shared).total // 2**20
    fix = (
        "" if size >= LEAST_SHARED_MB
        else _("Start the container with --shm-size=2g; only runs on several GPUs need it.")
    )  # fmt: skip
    yield Finding("shared memory", "warning" if fix else "ok", f"{size} MB", fix)


def check_folders(places: Places) -> Iterator[Finding]:
    """Write into the run and cache folders, and look at the space beside them."""
    for name, folder in (("run folder", places.run_dir), ("cache folder", places.cache_dir)):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(b"\0" * 4096)
        except OSError as error:
            yield Finding(name, "failed", f"{folder}: {error.strerror}", hints.explain(error).hint or "")
            continue
        free = shutil.disk_usage(folder).free // 2**20
        fix = "" if free >= LEAST_DISK_MB else _("Free some space: checkpoints and pictures need more.")
        yield Finding(name, "warning" if fix else "ok", f"{folder}, {free} MB free", fix)


# -- what is installed ---------------------------------------------------------------------------------------------


def check_packages(places: Places) -> Iterator[Finding]:
    """Compare the versions of required packages with the oldest that work."""
    old, found = [], []
    for name, oldest in REQUIRED.items():
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            old.append(f"{name} is missing")
            continue
        found.append(f"{name} {version}")
        if _numbers(version) < _numbers(oldest):
            old.append(f"{name} {version} is older than {oldest}")
    if old:
        yield Finding("packages", "failed", "; ".join(old), _("Install the requirements again: bin/setup."))
    else:
        yield Finding("packages", "ok", ", ".join(found))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.split("+")[0])[:3])


def check_extras(places: Places) -> Iterator[Finding]:
    """Import optional packages; one that is not there is well, one that is there and broken is not."""
    there, missing = [], []
    for name, gives in OPTIONAL.items():
        if importlib.util.find_spec(name) is None:
            missing.append(f"{name} ({gives})")
            continue
        try:
            importlib.import_module(name)
        except Exception as error:
            yield Finding(name, "failed", str(error).strip(), hints.explain(error).hint or "")
        else:
            there.append(name)
    told = f"installed: {', '.join(there) or 'none'}; not installed: {', '.join(missing) or 'none'}"
    yield Finding("extras", "ok", told)


def check_plugins(places: Places) -> Iterator[Finding]:
    """Load every family, method, optimizer, sampler and captioner, ours and those of plugins."""
    with contextlib.suppress(ImportError):
        from training.engine.child import quieten_libraries

        quieten_libraries()
    kinds: tuple[tuple[str, list[str], Callable[[str], Any]], ...] = (
        ("families", registry.family_names(), registry.load_family),
        ("methods", registry.method_names(), registry.load_method),
        ("optimizers", registry.optimizer_names(), registry.load_optimizer),
        ("samplers", registry.sampler_names(), registry.load_sampler),
        ("captioners", registry.captioner_names(), registry.load_captioner),
    )
    for kind, names, load in kinds:
        whole = []
        for name in names:
            try:
                load(name)
            except Exception as error:
                told = first_line(error)
                if not isinstance(error, EngineError):
                    told = f"{name} cannot be loaded: {type(error).__name__}: {told}"
                yield Finding(kind, "failed", told, _("Repair or remove the plugin that registers it."))
            else:
                whole.append(name)
        yield Finding(kind, "ok" if whole else "failed", ", ".join(whole) or "none")


def check_pictures(places: Places) -> Iterator[Finding]:
    """Write and read a picture in each format that may be uploaded."""
    import io

    from PIL import Image

    broken = []
    for name in ("PNG", "JPEG", "WEBP", "AVIF", "TIFF"):
        buffer = io.BytesIO()
        try:
            Image.new("RGB", (32, 32), (200, 30, 60)).save(buffer, name)
            Image.open(io.BytesIO(buffer.getvalue())).load()
        except Exception:
            broken.append(name)
    heic = "is" if importlib.util.find_spec("pillow_heif") else "is not"
    if broken:
        fix = _(
            "Install Pillow from its own wheel (pip install --force-reinstall pillow): it brings every decoder."
        )
        yield Finding("pictures", "failed", f"cannot be read: {', '.join(broken)}", fix)
    else:
        yield Finding(
            "pictures", "ok", f"PNG, JPEG, WebP, AVIF and TIFF can be read; pillow-heif for HEIC {heic} there"
        )


# -- torch and the devices -----------------------------------------------------------------------------------------


def check_devices(places: Places) -> Iterator[Finding]:
    """Look at the build of PyTorch, the driver, and each GPU."""
    import torch

    built = (
        f"CUDA {torch.version.cuda}" if torch.version.cuda else getattr(torch.version, "hip", None) or "CPU"
    )
    yield Finding("torch", "ok", f"{torch.__version__}, built for {built}")
    driver = _driver()
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        if driver is None:
            yield Finding("GPU", "ok", f"none; runs use the processor, {os.cpu_count()} cores")
            return
        fix = (
            _("Install a PyTorch built for CUDA: this one is for the CPU.") if not torch.version.cuda
            else _("Update the driver, or install a PyTorch built for an older CUDA; "
                   "give a container its GPUs (--gpus all).")
        )  # fmt: skip
        yield Finding("GPU", "failed", f"driver {driver} is there, but PyTorch sees no GPU", fix)
        return
    made_for = torch.cuda.get_arch_list()
    for index in range(count):
        found = torch.cuda.get_device_properties(index)
        detail = (
            f"{found.name}, {found.total_memory // 2**20} MB, driver {driver}, sm_{found.major}{found.minor}"
        )
        if _runs_on(found.major, found.minor, made_for):
            yield Finding(f"GPU {index}", "ok", detail)
        else:
            fix = _("Install a PyTorch built for this GPU's generation.")
            yield Finding(
                f"GPU {index}", "failed", f"{detail}; PyTorch is built for {', '.join(made_for)}", fix
            )


def _driver() -> str | None:
    """Return the version of NVIDIA's kernel driver, None if none is loaded."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text()
    except OSError:
        return None
    found = re.search(r"\s(\d+\.\d+(?:\.\d+)?)\s", text)
    return found[1] if found else "of unknown version"


def _runs_on(major: int, minor: int, made_for: list[str]) -> bool:
    """Tell whether a build has kernels for a GPU: of its own generation up to its revision, or PTX of an older one."""
    for name in made_for:
        kind, _sep, number = name.partition("_")
        theirs = int(re.sub(r"\D", "", number) or 0)
        if kind == "compute" and theirs <= 10 * major + minor:
            return True
        if kind == "sm" and theirs // 10 == major and theirs % 10 <= minor:
            return True
    return not made_for  # a build that does not tell, as for ROCm


def check_safetensors(places: Places) -> Iterator[Finding]:
    """Write a small file into the run folder and read it again."""
    import torch
    from safetensors.torch import load_file, save_file

    with tempfile.TemporaryDirectory(dir=places.run_dir) as folder:
        path, values = Path(folder) / "doctor.safetensors", torch.arange(64, dtype=torch.bfloat16)
        save_file({"values": values}, path)
        same = torch.equal(load_file(path)["values"], values)
    yield Finding("safetensors", "ok" if same else "failed", "written and read again",
                  "" if same else _("The disk changes what is written: check it."))  # fmt: skip


def check_training(places: Places) -> Iterator[Finding]:
    """Train two steps of a tiny model on each device, export it, and prove that the file does what was trained."""
    import torch

    from training.engine.child import quieten_libraries

    quieten_libraries()
    devices = [torch.device("cpu")]
    devices += [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    for device in devices:
        name = f"training on {device}"
        try:
            seconds = _train(device, places.run_dir)
        except Exception as error:
            explained = hints.explain(error)
            yield Finding(name, "failed", f"{type(error).__name__}: {error}", explained.hint or "")
        else:
            yield Finding(name, "ok", f"two steps, exported and loaded again in {seconds:.1f} s")


def _train(device: Any, folder: Path) -> float:
    """Train and export a tiny model in a folder that is removed again; return the seconds of it."""
    import time

    from PIL import Image

    from training.engine.api import LoRATrainer
    from training.engine.rank import Silent
    from training.engine.spec import RunSpec

    start = time.monotonic()
    family = registry.load_family("sd")
    with tempfile.TemporaryDirectory(dir=folder, prefix="doctor-") as name:
        place = Path(name)
        family.save(family.tiny(), place / "base")
        (place / "set").mkdir()
        for index in range(2):
            Image.new("RGB", (32, 32), (90 * index, 120, 200)).save(place / "set" / f"{index}.png")
        spec = RunSpec.from_dict({
            "name": "doctor", "trigger": "doctor", "base_model": {"path": str(place / "base"), "family": "sd"},
            "dataset": {"folder": str(place / "set")}, "method": {"rank": 2, "targets": "attn"}, "threads": 1,
            "training": {"steps": 2, "batch_size": 2, "resolution": 32, "learning_rate": 1e-3},
        })  # fmt: skip
        LoRATrainer(spec, run_dir=place / "run", sink=Silent(), device=device).run()
    return time.monotonic() - start


# The one that trains is the last.
CHECKS: tuple[Check, ...] = (
    check_python, check_memory, check_limits, check_folders, check_packages, check_pictures, check_devices,
    check_extras, check_plugins, check_safetensors, check_training,
)  # fmt: skip
