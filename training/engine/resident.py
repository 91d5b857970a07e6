"""Keep the base model of the last run in memory for the next one: what it is, whether it still is, and who has it.

A process that holds one (`training.engine.holder`) forks the runs that begin with it, so a run finds it here and has it
as its own: pages are copied when one writes to them, and nothing comes back. Runs tell the server what they loaded.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from training.engine.families.base import ModelFamily, Parts

NOTE_LIMIT = 131072


@dataclasses.dataclass(frozen=True)
class Base:
    """Name a base model as it is loaded. ``files`` changes with any file of its folder."""

    family: str
    folder: str
    dtype: str
    files: str

    @classmethod
    def of(cls, family: str, folder: Path, dtype: torch.dtype | str) -> Base:
        """Name what lies in ``folder`` now; raise OSError if it cannot be read."""
        real = folder.resolve()
        return cls(family, str(real), str(dtype).removeprefix("torch."), fingerprint(real))


@dataclasses.dataclass(frozen=True)
class Held:
    """Be a base model in memory."""

    base: Base
    parts: Parts


_held: Held | None = None
_notes: socket.socket | None = None
digests: dict[str, str] = {}
"""Digests of files that earlier runs of this server computed, by `data.identity`'s mark."""


def fingerprint(folder: Path) -> str:
    """Return a digest of the names, sizes and times of change of all files below a folder; no file is read."""
    lines = []
    for parent, _, names in os.walk(folder, followlinks=True):
        for name in names:
            path = os.path.join(parent, name)
            stat = os.stat(path)
            # ctime too: a copy that keeps the old time of writing is another file still.
            lines.append(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\0{stat.st_ctime_ns}\n")
    return hashlib.sha256("".join(sorted(lines)).encode("utf-8", "surrogateescape")).hexdigest()


def load_base(family: ModelFamily, folder: Path, *, device: torch.device, dtype: torch.dtype) -> Parts:
    """Return a base model on ``device``: the one in memory if it is this one, else from its folder.

    Raise what the family raises for one that it cannot load.
    """
    global _held
    base = Base.of(family.name, folder, dtype)
    held, _held = _held, None  # the run changes it: it is given away once
    if held is not None and held.base == base:
        return dataclasses.replace(held.parts.to(device), folder=folder)
    parts = family.load(folder, device=device, dtype=dtype)
    tell(base=dataclasses.asdict(base), bytes=parts.bytes())
    return parts


def hold(base: Base) -> None:
    """Load a base model into the memory of this process, for its forks.

    Raise ValueError if the folder holds another one by now, and what the family raises.
    """
    global _held
    import torch

    from training.engine.registry import load_family

    family, folder = load_family(base.family), Path(base.folder)
    parts = family.load(folder, device=torch.device("cpu"), dtype=getattr(torch, base.dtype))
    if Base.of(base.family, folder, base.dtype) != base:
        raise ValueError(f"{folder} changed")
    _held = Held(base, parts)


# -- What runs tell the server ---------------------------------------------------------------------------------


def open_notes() -> socket.socket:
    """Return the end on which a server reads what its forks `tell`."""
    global _notes
    ours, _notes = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.setblocking(False)
    _notes.setblocking(False)
    return ours


def tell(**note: Any) -> None:
    """Tell the server this process was forked from, if any; a note that cannot be sent now is lost."""
    if _notes is not None:
        with contextlib.suppress(OSError):
            _notes.send(json.dumps(note).encode())


def remember(marks: dict[str, str]) -> None:
    """Let later runs of this server know the digests of files."""
    new = {mark: digest for mark, digest in marks.items() if mark not in digests}
    if new:
        digests.update(new)
        tell(digests=new)


# -- Memory ----------------------------------------------------------------------------------------------------


def available_mb() -> int:
    """Return how much memory can be taken now without swapping, in MB, within the limit of a container."""
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    available = int(fields["MemAvailable"].split()[0]) // 1024
    group = Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError, ValueError):  # no container, or one without a limit
        most, used = (int((group / f"memory.{name}").read_text()) for name in ("max", "current"))
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        available = min(available, (most - used + int(stat["inactive_file"])) // 2**20)
    return available
