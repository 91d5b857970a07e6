"""What is found of the files of a model version: the value behind `TrainingJob.evaluation` of an evaluation. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """Hold the figures of one file; one that could not be measured is None. `images` is 0 before it was measured.

    The base model alone has no file ("").
    """

    file: str = ""
    name: str = ""
    step: int = 0
    epoch: int = 0
    is_final: bool = False
    style_distance: float | None = None
    content_score: float | None = None
    images: int = 0

    @property
    def is_measured(self) -> bool:
        return self.images > 0


@dataclasses.dataclass(frozen=True, slots=True)
class Findings:
    """Hold what is found so far of a model version: the base model alone, then its files by step.

    `left_out` counts the files that were not measured because there were too many.
    """

    version: str
    base: Finding
    files: tuple[Finding, ...]
    left_out: int = 0

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Findings:
        """Read what `to_dict` wrote."""
        files = tuple(Finding(**each) for each in data["files"])
        return cls(data["version"], Finding(**data["base"]), files, data["left_out"])

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        return {**dataclasses.asdict(self), "files": [dataclasses.asdict(each) for each in self.files]}

    def with_figures(
        self, file: str, style_distance: float | None, content_score: float | None, images: int
    ) -> Findings:
        """Return these findings with the figures of one file, or of the base model (""), filled in."""

        def filled(old: Finding) -> Finding:
            if old.file != file:
                return old
            return dataclasses.replace(
                old, style_distance=style_distance, content_score=content_score, images=images
            )

        return dataclasses.replace(
            self, base=filled(self.base), files=tuple(filled(each) for each in self.files)
        )

    @property
    def measured(self) -> tuple[Finding, ...]:
        """Return the files that were measured."""
        return tuple(each for each in self.files if each.is_measured)

    @property
    def told(self) -> list[str]:
        """Return which files were measured, the base model ("") among them."""
        return [each.file for each in (self.base, *self.files) if each.is_measured]
