"""Known failures: how they are recognised, what they mean, what to do, and which change of the spec does it.

``explain`` turns an exception into an ``EngineError`` with advice, ``explain_exit`` the exit status of a process that
could say nothing any more; ``warnings_for`` finds before a run what is likely to disappoint. Nothing here imports
torch.
"""

from __future__ import annotations

from collections.abc import Iterator

from training.engine.errors import EngineError, first_line
from training.engine.fields import gettext_noop as _
from training.engine.hints import disk, machines, memory, models, pictures, processes, recipes
from training.engine.hints.conditions import CONDITIONS, warnings_for
from training.engine.hints.facts import Advice, SetFacts, facts_of
from training.engine.hints.hint import Case, Hint, told
from training.engine.spec import RunSpec

__all__ = [
    "CONDITIONS",
    "HINTS",
    "Advice",
    "Case",
    "Hint",
    "SetFacts",
    "explain",
    "explain_exit",
    "facts_of",
    "find",
    "warnings_for",
]

HINTS: tuple[Hint, ...] = (
    *memory.HINTS, *processes.HINTS, *pictures.HINTS, *models.HINTS, *recipes.HINTS, *machines.HINTS, *disk.HINTS,
)  # fmt: skip
"""Every known failure. The first that matches counts, so the narrower stand before the wider."""

BY_CODE = {hint.code: hint for hint in HINTS}


def find(error: BaseException) -> Hint | None:
    """Return the known failure that an exception is, or that caused it; None if there is none."""
    for each in _chain(error):
        found = next((hint for hint in HINTS if hint.matches(each)), None)
        if found is not None:
            return found
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and what it was raised from, outermost first."""
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__


def explain(error: BaseException, spec: RunSpec | None = None) -> EngineError:
    """Turn any exception into one with code, category, advice and exit code.

    With the recipe, the change that would help is computed for it.
    """
    if isinstance(error, EngineError):
        return error
    hint = find(error)
    if hint is None:
        return EngineError(
            "internal",
            f"{type(error).__name__}: {first_line(error)}",
            hint=_("The log has the details; try again."),
        )
    text = "\n".join(told(each) for each in _chain(error))
    return _known(hint, f"{hint.text} ({first_line(error)})", Case(text, spec))


def explain_exit(status: int, spec: RunSpec | None = None) -> EngineError | None:
    """Explain a process's exit status where a signal ended it (-9, or 137 as a shell tells it); None if none did."""
    signal = -status if status < 0 else status - 128
    code = processes.SIGNALS.get(signal)
    if code is None:
        return None
    hint = BY_CODE[code]
    return _known(hint, f"{hint.text} (signal {signal})", Case("", spec))


def _known(hint: Hint, message: str, case: Case) -> EngineError:
    known = _KnownFailure(hint.code, message, hint=hint.fix, patch=hint.patched(case))
    known.exit_code, known.category = hint.exit_code, hint.category  # type: ignore[misc]
    return known


class _KnownFailure(EngineError):
    """Carry a hint's category and exit code."""
