"""The ways a run can end badly, each with its exit code and the person who can mend it."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, ClassVar, Literal

Category = Literal["user", "platform", "capacity"]


class ExitCode(IntEnum):
    """What the process tells its supervisor; numbers follow sysexits.h where it has one."""

    DONE = 0
    CONFIGURATION = 64
    DATA = 65
    INTERNAL = 70
    MEMORY = 71
    DISK = 74
    INTERRUPTED = 75


class EngineError(Exception):
    """Say what went wrong, what to do, and which spec changes would mend it.

    ``patch`` maps JSON pointers of the spec to new values, for example ``{"/training/batch_size": 4}``.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.INTERNAL
    category: ClassVar[Category] = "platform"

    def __init__(
        self, code: str, message: str, *, hint: str | None = None, patch: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.patch = patch


class ConfigurationError(EngineError):
    """Report a recipe that cannot run as written."""

    exit_code = ExitCode.CONFIGURATION
    category = "user"


class DataError(EngineError):
    """Report pictures or captions that cannot be used."""

    exit_code = ExitCode.DATA
    category = "user"


class MemoryExhausted(EngineError):
    """Report that the run does not fit the device, after every fallback was tried."""

    exit_code = ExitCode.MEMORY
    category = "capacity"


class DiskError(EngineError):
    """Report a full or failing disk."""

    exit_code = ExitCode.DISK
    category = "platform"


class Interrupted(Exception):
    """Unwind the run to a checkpointed stop; ``reason`` is one of the protocol's interruption reasons."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def first_line(error: BaseException) -> str:
    """Return what an exception says in one line: its text may be pages long, or nothing."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
