"""What is known before a run, and how a condition is told."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from training.engine.estimate import DeviceProfile
from training.engine.hints.hint import Patch
from training.engine.spec import RunSpec

EPS_FAMILIES = frozenset({"sd", "sdxl", "pixart"})
"""Families trained on noise; the others learn a flow, for which min-SNR and noise offset mean nothing."""


@dataclasses.dataclass(frozen=True, slots=True)
class SetFacts:
    """Be what is known of the trained pictures; what is not known stays empty and is not warned about.

    ``captions``, ``sizes`` (width, height) and ``digests`` have one entry for each picture; ``buckets`` counts samples
    by shape, repeats included. ``orphans`` are caption files without a picture. ``disk_free_mb`` is for the run folder.
    """

    pictures: int
    captions: tuple[str, ...] = ()
    sizes: tuple[tuple[int, int], ...] = ()
    digests: tuple[str, ...] = ()
    buckets: Mapping[str, int] = dataclasses.field(default_factory=dict)
    held_out: int = 0
    orphans: int = 0
    divisor: int = 8
    base_title: str = ""
    device: DeviceProfile | None = None
    disk_free_mb: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Advice:
    """Be one warning, ready to be told; ``text`` with ``values`` filled in is ``message``."""

    code: str
    text: str
    values: Mapping[str, Any]
    hint: str
    patch: Patch | None

    @property
    def message(self) -> str:
        """Return the whole sentence."""
        return self.text.format(**self.values)


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """Say that a condition holds, with what its sentence names and the change that helps."""

    values: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    patch: Patch | None = None


Check = Callable[[RunSpec, SetFacts], Found | None]


@dataclasses.dataclass(frozen=True, slots=True)
class Condition:
    """Be one thing to look at before a run."""

    code: str
    text: str
    hint: str
    check: Check


def facts_of(
    rows: Iterable[tuple[str, tuple[int, int], str]], *, buckets: Mapping[str, int], **more: Any
) -> SetFacts:
    """Build the facts from (caption, size, digest) of each trained picture; ``more`` are further fields."""
    captions, sizes, digests = [], [], []
    for caption, size, digest in rows:
        captions.append(caption)
        sizes.append(size)
        digests.append(digest)
    return SetFacts(
        len(captions), tuple(captions), tuple(sizes), tuple(digests), buckets=dict(buckets), **more
    )
