"""Names of layers as people write them, and the exceptions that hang on them. Nothing here imports torch.

A name is a run of whole pieces of a layer's path, which dots part: ``attn2`` and ``up_blocks.1`` are in
``up_blocks.1.attentions.0.attn2.to_k``, ``attn`` and ``blocks.1`` are not. ``*`` stands for any part of one piece.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Iterable
from functools import cache

LIMITS = {"rank": (1.0, 512.0), "alpha": (1e-6, 4096.0), "learning_rate": (1e-9, 1.0)}


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """Say what is other for the layers that a name fits; None is as for the rest."""

    name: str
    rank: int | None = None
    alpha: float | None = None
    learning_rate: float | None = None


def read_rule(line: str) -> Rule:
    """Read ``name: rank=8, alpha=4, learning_rate=1e-5``, at least one of the three; raise ValueError in words."""
    name, colon, rest = (part.strip() for part in line.partition(":"))
    if not name or not colon or re.search(r"\s", name):
        raise ValueError(f"{line[:100]!r} is not of the form: name: rank=8, alpha=4, learning_rate=1e-5")
    values: dict[str, float] = {}
    for entry in filter(None, re.split(r"[\s,]+", re.sub(r"\s*=\s*", "=", rest))):
        key, _, text = entry.partition("=")
        if key not in LIMITS:
            near = difflib.get_close_matches(key, LIMITS, n=1)
            advice = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(LIMITS)}"
            raise ValueError(f"{line[:100]!r}: {key[:100]!r} is not known here; {advice}")
        if key in values:
            raise ValueError(f"{line[:100]!r}: {key} is said twice")
        values[key] = _number(line, key, text)
    if not values:
        raise ValueError(f"{line[:100]!r} says nothing of {name[:100]!r}; give rank, alpha or learning_rate")
    rank = values.pop("rank", None)
    return Rule(name, None if rank is None else int(rank), **values)


def _number(line: str, key: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    low, high = LIMITS[key]
    if not low <= number <= high or (key == "rank" and number != int(number)):
        what = "a whole number" if key == "rank" else "a number"
        raise ValueError(f"{line[:100]!r}: {key} must be {what} between {low:g} and {high:g}")
    return number


@cache
def _pattern(name: str, at_end: bool) -> re.Pattern[str]:
    pieces = re.escape(name).replace(r"\*", r"[^.]*")
    return re.compile(rf"(?:^|\.){pieces}" + (r"$" if at_end else r"(?:\.|$)"))


def is_in(name: str, path: str) -> bool:
    """Tell whether a name is a run of pieces of a path."""
    return _pattern(name, False).search(path) is not None


def is_end_of(name: str, path: str) -> bool:
    """Tell whether a name is the last pieces of a path."""
    return _pattern(name, True).search(path) is not None


def near_names(name: str, paths: Iterable[str], *, at_end: bool) -> list[str]:
    """Return up to three runs of pieces of some paths that look most like a name that fits none."""
    length = name.count(".") + 1
    runs: dict[str, None] = {}
    for path in paths:
        pieces = path.split(".")
        for size in {length, length + 1, max(1, length - 1)}:
            starts = [len(pieces) - size] if at_end else range(len(pieces) - size + 1)
            runs.update((".".join(pieces[start : start + size]), None) for start in starts if start >= 0)
    return difflib.get_close_matches(name, runs, n=3, cutoff=0.5)
