"""What a known failure is: how it is recognised, what it means, what to do, and which change of the spec does it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

from training.engine.errors import Category, ExitCode
from training.engine.spec import FIELDS, RunSpec, validate


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """Be one failure as it happened: what was said, and the recipe if it was read by then."""

    text: str
    spec: RunSpec | None = None

    def number(self, pattern: str) -> float | None:
        """Return the number that the first group of a pattern finds in the text."""
        found = re.search(pattern, self.text)
        return float(found[1]) if found else None


Patch = dict[str, Any]
"""New values by JSON pointer of the spec, for example ``{"/training/batch_size": 4}``."""


@dataclasses.dataclass(frozen=True, slots=True)
class Hint:
    """Be one known failure; ``pattern`` is searched in "ExceptionName: message".

    ``kinds`` are names of exception classes, one of which the failure must be (a subclass will do). ``patch`` is the
    change that helps whatever the recipe; ``change`` computes it where the recipe decides.
    """

    code: str
    pattern: str
    category: Category
    exit_code: ExitCode
    text: str
    fix: str
    patch: Patch | None = None
    change: Callable[[Case], Patch | None] | None = None
    kinds: tuple[str, ...] = ()

    def matches(self, error: BaseException) -> bool:
        """Tell whether an exception is this failure."""
        names = {cls.__name__ for cls in type(error).__mro__}
        if self.kinds and not names.intersection(self.kinds):
            return False
        return re.search(self.pattern, told(error), re.IGNORECASE) is not None

    def patched(self, case: Case) -> Patch | None:
        """Return the change that helps in this case; only settings that a spec has."""
        patch = self.patch
        if self.change is not None and case.spec is not None:
            patch = self.change(case)
        return applicable(patch, case.spec)


def applicable(patch: Patch | None, spec: RunSpec | None) -> Patch | None:
    """Return a change that leaves the recipe valid: what does not go together with it goes back to its default.

    None if there is no such change; without the recipe it cannot be told, and settings that a spec has are all.
    """
    known = {pointer: value for pointer, value in (patch or {}).items() if pointer in FIELDS}
    if spec is None or not known:
        return known or None
    conflicts = {error.pointer for error in validate(_changed(spec, known))}
    known |= {pointer: FIELDS[pointer].default for pointer in conflicts & FIELDS.keys() - known.keys()}
    return None if conflicts and validate(_changed(spec, known)) else known


def _changed(spec: RunSpec, patch: Patch) -> dict[str, Any]:
    data = spec.to_dict()
    for pointer, value in patch.items():
        section, _, name = pointer.strip("/").rpartition("/")
        (data[section] if section else data)[name] = value
    return data


def told(error: BaseException) -> str:
    """Return what is searched: the class's name and the message."""
    return f"{type(error).__name__}: {error}"
