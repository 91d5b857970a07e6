"""Write captions for pictures: a portion at a time, each told as soon as it is there."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from PIL import Image

from training.engine.captioning import CaptioningSpec
from training.engine.control import Control
from training.engine.data.pictures import load_small
from training.engine.device import Portions, available_cpus, pick_device
from training.engine.errors import DataError, Interrupted
from training.engine.events import Caption, Done, EventSink, InterruptedEvent, Phase, Warning
from training.engine.progress import ProgressTeller
from training.engine.registry import load_captioner

# No captioner looks closer: sides of this many pixels or a little more are kept of a large picture.
_EDGE = 512


class CaptionWriter:
    """Describe the pictures of an order: ``[{"id": ..., "path": ...}]``. Earlier attempts did ``done`` others."""

    def __init__(
        self, spec: CaptioningSpec, pictures: Sequence[Mapping[str, str]], *, sink: EventSink,
        control: Control | None = None, device: torch.device | None = None, done: int = 0,
    ) -> None:  # fmt: skip
        self.spec, self.pictures, self.sink = spec, pictures, sink
        self.control = control or Control()
        self.device = device or pick_device()
        self._before, self._total = done, done + len(pictures)
        self._begun = time.monotonic()

    def run(self) -> int:
        """Describe everything and return how many captions were written. An interruption is told and raised."""
        try:
            count = self._write_all()
        except Interrupted as interrupted:
            self.sink.emit(InterruptedEvent(0, interrupted.reason, None))
            raise
        self.sink.emit(Done(self._before + count, self._total, round(time.monotonic() - self._begun, 2)))
        return count

    def _write_all(self) -> int:
        self.control.check()
        if self.device.type == "cpu":
            torch.set_num_threads(available_cpus())
        captioner = load_captioner(self.spec.captioner)
        self.sink.emit(Phase("load_base", 0, 1))
        captioner.load(
            Path(self.spec.model) if self.spec.model else None, device=self.device, longest=self.spec.longest
        )
        self.sink.emit(Phase("load_base", 1, 1))
        teller = ProgressTeller(self.sink, self.control, "caption", self._before, self._total, interval=0.5)
        portions = Portions(captioner.at_once, self.device)
        count, place = 0, self._before

        def describe(part: slice) -> tuple[int, list[Caption]]:
            opened = [(row["id"], image) for row in self.pictures[part] if (image := self._open(row))]
            texts = captioner.describe([image for _id, image in opened]) if opened else []
            captions = [Caption(uid, text) for (uid, _image), text in zip(opened, texts, strict=True)]
            return part.stop - part.start, captions

        for looked_at, captions in portions.each(len(self.pictures), describe):
            for caption in captions:
                self.sink.emit(caption)
            count, place = count + len(captions), place + looked_at
            teller(place, self._total)
        teller.finish(self._total)
        return count

    def _open(self, row: Mapping[str, str]) -> Image.Image | None:
        """Return a picture, None for one that cannot be read: the others get their captions."""
        try:
            return load_small(Path(row["path"]), _EDGE)
        except DataError as error:
            self.sink.emit(Warning(error.code, f"{row['id']}: {error.message}", error.hint))
            return None
