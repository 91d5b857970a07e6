"""Draw pictures with finished LoRAs: load the base model once, put each mix on it, draw what is not there yet."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import torch

from training.engine.control import Control
from training.engine.device import available_cpus, pick_device, pick_precision, weights_dtype
from training.engine.errors import ConfigurationError, DataError, Interrupted
from training.engine.events import Done, EventSink, InterruptedEvent, Log, Phase, Sample
from training.engine.export.factors import VerificationError, read_factors
from training.engine.export.fitting import put_on
from training.engine.export.weights_file import read_metadata
from training.engine.export.words import read_word, word_shapes
from training.engine.families.base import Parts, TextRow
from training.engine.families.sources import base_folder
from training.engine.foundation import lend
from training.engine.generation import GenerationSpec, Mix, Picture, picture_path
from training.engine.methods.changes import Change
from training.engine.progress import ProgressTeller
from training.engine.registry import load_family
from training.engine.resident import load_base
from training.engine.sample import Artist
from training.engine.words import known_word

# Pictures that are drawn together and told together: fewer are seen sooner, more are faster on a GPU.
DRAWN_AT_ONCE = 4


class Generator:
    """Draw the pictures of one order in a run folder. ``drawn`` are the indices that an earlier attempt left.

    ``mix_drawn`` is called with the number of each mix once all its pictures are there.
    """

    def __init__(
        self, spec: GenerationSpec, *, run_dir: Path, sink: EventSink, control: Control | None = None,
        device: torch.device | None = None, base: Parts | None = None, drawn: Collection[int] = (),
        phase: str = "draw", mix_drawn: Callable[[int], None] = lambda mix: None,
    ) -> None:  # fmt: skip
        self.spec, self.run_dir, self.sink = spec, run_dir, sink
        self.control = control or Control()
        self.family = load_family(spec.base_model.family)
        self.device = device or pick_device()
        self.precision = pick_precision(spec.precision, self.device)
        self._base = base
        self._drawn = frozenset(drawn)
        self._phase, self._mix_drawn = phase, mix_drawn
        self._read: dict[Path, dict[str, Change]] = {}
        self._count = 0
        self._begun = time.monotonic()

    def run(self) -> int:
        """Draw everything and return how many pictures were drawn. An interruption is told as an event and raised."""
        try:
            count = self._draw_all()
        except Interrupted as interrupted:
            self.sink.emit(InterruptedEvent(0, interrupted.reason, None))
            raise
        seconds = round(time.monotonic() - self._begun, 2)
        self.sink.emit(Done(self.spec.total, self.spec.total, seconds))
        return count

    @torch.no_grad()
    def _draw_all(self) -> int:
        self.control.check()
        if self.device.type == "cpu":
            torch.set_num_threads(available_cpus())
        self.sink.emit(Phase("load_base", 0, 1))
        parts = self._base or self._load()
        self.sink.emit(Phase("load_base", 1, 1))
        artist = Artist(self.family, parts, self.precision)
        total = self.spec.total * self.spec.steps
        teller = ProgressTeller(
            self.sink, self.control, self._phase, len(self._drawn) * self.spec.steps, total, interval=0.5
        )
        for number, mix in enumerate(self.spec.mixes):
            left = [
                each for each in self.spec.pictures() if each.mix == number and each.index not in self._drawn
            ]
            if left:
                with self._mixed(parts, mix):
                    negative = self.family.negative(self.spec.negative)
                    texts = self.family.encode_text(parts, [negative, *self.spec.prompts])
                    for start in range(0, len(left), DRAWN_AT_ONCE):
                        self._draw(artist, texts, left[start : start + DRAWN_AT_ONCE], teller)
            self._mix_drawn(number)
        teller.finish(total)
        return self._count

    def _load(self) -> Parts:
        folder = base_folder(self.family, self.spec.base_model, self.run_dir / "cache")
        parts = load_base(self.family, folder, device=self.device, dtype=weights_dtype(self.precision))
        lend(parts, self.device)
        return parts

    @contextmanager
    def _mixed(self, parts: Parts, mix: Mix) -> Iterator[None]:
        """Put the LoRAs of a mix on the model for a while, each as strong as it is wanted."""
        with ExitStack() as stack:
            for use in mix:
                if word_shapes(Path(use.file)):
                    stack.enter_context(self._word(parts, Path(use.file), use.strength))
                    continue
                factors = self._factors(Path(use.file), use.strength)
                expert = read_metadata(Path(use.file)).get("lora_foundry.expert", "")
                meant = parts.with_expert(expert) if expert in parts.experts else parts
                unused = put_on(stack, self.family.tables, meant.adaptable, factors)
                if len(unused) == len(factors):
                    raise _of_another_base(Path(use.file), "it fits no layer of this base model")
                if unused:
                    self.sink.emit(
                        Log("warning", f"{Path(use.file).name}: {len(unused)} layers were left out.")
                    )
            yield

    def _word(self, parts: Parts, path: Path, strength: float) -> AbstractContextManager[None]:
        """Let the model know the word of a file, its rows multiplied by ``strength``."""
        word = read_metadata(path).get("modelspec.trigger_phrase") or path.stem
        try:
            read = read_word(path, self.family.name)
        except VerificationError as error:
            raise _of_another_base(path, "this base model does not read its word") from error
        for name, rows in read.items():
            if rows.shape[1] != parts.components[name].get_input_embeddings().weight.shape[1]:
                raise _of_another_base(path, f"its rows do not fit the {name}")
        return known_word(parts, word, {name: strength * rows.float() for name, rows in read.items()})

    def _factors(self, path: Path, strength: float) -> dict[str, Change]:
        """Read a file onto the device, its scale multiplied by ``strength``; raise DataError if it is not whole."""
        if path not in self._read:
            try:
                read = read_factors(path)
            except VerificationError as error:
                raise DataError(
                    "lora_unreadable", error.message, hint="Choose another LoRA, or install this one again."
                ) from error
            self._read[path] = {stem: each.to(self.device, torch.float32) for stem, each in read.items()}
        return {stem: each.times(strength) for stem, each in self._read[path].items()}

    def _draw(
        self, artist: Artist, texts: list[TextRow], pictures: list[Picture], teller: ProgressTeller
    ) -> None:
        """Draw some pictures of one mix together, write their files and tell of each."""
        spec = self.spec
        before = (len(self._drawn) + self._count) * spec.steps
        images = artist.draw(
            [texts[1 + picture.prompt] for picture in pictures], texts[0], seeds=[p.seed for p in pictures],
            steps=spec.steps, guidance=spec.guidance, width=spec.width, height=spec.height,
            progress=lambda done, _total: teller(before + done, spec.total * spec.steps),
        )  # fmt: skip
        for picture, image in zip(pictures, images, strict=True):
            path = picture_path(self.run_dir, picture.index)
            path.parent.mkdir(parents=True, exist_ok=True)
            aside = path.with_name(f".{path.name}.{os.getpid()}")
            image.save(aside, format="PNG")
            aside.replace(path)
            self._count += 1
            self.sink.emit(Sample(
                step=0, epoch=0, prompt_index=picture.index, prompt=spec.prompts[picture.prompt], seed=picture.seed,
                path=str(path.relative_to(self.run_dir)), width=image.width, height=image.height,
                lora=bool(spec.mixes[picture.mix]),
            ))  # fmt: skip


def _of_another_base(path: Path, why: str) -> ConfigurationError:
    return ConfigurationError(
        "lora_of_another_base", f"{path.name} cannot be used: {why}",
        hint="Choose a LoRA that was trained on this base model, or on one of its family.",
    )  # fmt: skip
