"""Find which of several files of a LoRA is best: draw the same pictures with each of them, and compare the figures.

The figures are those of ``evaluate``. The base model comes first, so that each file is seen against it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from pathlib import Path

import torch

from training.engine.control import Control
from training.engine.errors import ConfigurationError
from training.engine.evaluate import (
    Vector,
    content_score,
    figure,
    shape_maps,
    small,
    style_distance,
    style_vectors,
)
from training.engine.events import EventSink, Finding
from training.engine.families.base import Parts
from training.engine.generate import Generator
from training.engine.generation import MOST_OF_THE_SET, GenerationSpec, picture_path


@dataclasses.dataclass(frozen=True, slots=True)
class Judged:
    """Name the file that a mix stands for, and the step it was written at; the base model is ("", 0)."""

    id: str
    step: int


class Measurer:
    """Draw every picture of ``spec`` and tell a finding for each of its mixes, the first of which is the base alone.

    ``files`` says what each mix stands for; ``pictures`` is the set the LoRA was trained on, empty if it is gone.
    ``drawn`` and ``found`` are what an earlier attempt left: indices of pictures that lie in the run folder, and the
    files it told of.
    """

    def __init__(
        self, spec: GenerationSpec, *, files: Sequence[Judged], pictures: Sequence[Path], run_dir: Path,
        sink: EventSink, control: Control | None = None, device: torch.device | None = None, base: Parts | None = None,
        drawn: Collection[int] = (), found: Collection[str] = (),
    ) -> None:  # fmt: skip
        if len(files) != len(spec.mixes) or spec.mixes[0]:
            raise ConfigurationError(
                "files_do_not_fit", "the first mix must be the base model, and each mix needs a file"
            )
        self._spec, self._run_dir, self._sink = spec, run_dir, sink
        self._files, self._found = files, frozenset(found)
        self._set = pictures[:MOST_OF_THE_SET]
        self._control = control or Control()
        self._generator = Generator(
            spec, run_dir=run_dir, sink=sink, control=self._control, device=device, base=base, phase="evaluate",
            drawn=[index for index in drawn if picture_path(run_dir, index).exists()], mix_drawn=self._judge,
        )  # fmt: skip
        self._wanted: Vector | None = None
        self._plain: Vector | None = None

    def run(self) -> int:
        """Draw and judge everything, and return how many pictures were drawn; raise what ``Generator.run`` raises."""
        return self._generator.run()

    def _judge(self, mix: int) -> None:
        """Tell the figures of a mix whose pictures are all there."""
        file = self._files[mix]
        if file.id in self._found:
            return
        paths = self._paths(mix)
        self._sink.emit(Finding(
            file=file.id, step=file.step, images=len(paths),
            style_distance=figure(self._sink, "style_distance", lambda: self._style(paths)),
            content_score=figure(self._sink, "content_score", lambda: self._content(paths)),
        ))  # fmt: skip

    def _paths(self, mix: int) -> list[Path]:
        return [picture_path(self._run_dir, each.index) for each in self._spec.pictures() if each.mix == mix]

    def _style(self, paths: Sequence[Path]) -> float | None:
        if not self._set:
            return None
        if self._wanted is None:
            self._wanted = style_vectors(small(self._set, self._go_on))
        return round(style_distance(style_vectors(small(paths, self._go_on)), self._wanted), 4)

    def _content(self, paths: Sequence[Path]) -> float | None:
        if len(set(self._spec.prompts)) < 2:
            return None
        if self._plain is None:
            self._plain = shape_maps(small(self._paths(0), self._go_on))
        prompts = [self._spec.prompts[each.prompt] for each in self._spec.pictures() if each.mix == 0]
        return round(content_score(shape_maps(small(paths, self._go_on)), self._plain, prompts), 4)

    def _go_on(self, _done: int, _total: int) -> None:
        self._control.check()
