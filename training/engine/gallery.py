"""The samples of a run: which pictures are drawn, where their files lie, and drawing them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from training.engine.control import Control
from training.engine.events import EventSink, Sample
from training.engine.families.base import TextRow
from training.engine.progress import ProgressTeller
from training.engine.sample import Artist
from training.engine.spec import RunSpec


class Gallery:
    """Hold the pictures of a run: each prompt with each of its seeds, after every step that is due.

    Step 0 is drawn with the adapter off.
    """

    def __init__(self, spec: RunSpec, run_dir: Path, sink: EventSink, control: Control) -> None:
        self._spec, self._run_dir, self._sink, self._control = spec, run_dir, sink, control
        prompts = [prompt.replace("{trigger}", spec.trigger) for prompt in spec.sampling.prompts]
        self._pictures = [
            (index, prompt, copy)
            for index, prompt in enumerate(prompts)
            for copy in range(spec.sampling.count)
        ]

    @property
    def folder(self) -> Path:
        """Return where the pictures lie."""
        return self._run_dir / "samples"

    @property
    def prompts(self) -> list[str]:
        """Return the prompt of each picture."""
        return [prompt for _, prompt, _ in self._pictures]

    def files(self, step: int) -> list[Path]:
        """Return the file of each picture of a step."""
        return [
            self.folder / f"step-{step:08d}-p{index}{f'-{copy}' if copy else ''}.png"
            for index, _, copy in self._pictures
        ]

    def is_drawn(self, step: int) -> bool:
        """Tell whether every picture of a step is there; so it is where no prompt was given."""
        return all(path.exists() for path in self.files(step))

    def draw(
        self, artist: Artist, rows: Sequence[TextRow], negative: TextRow, *, step: int, epoch: int, lora: bool
    ) -> None:
        """Draw every picture from its encoded prompt and its fixed seed, and tell of each."""
        sampling, size = self._spec.sampling, self._spec.training.resolution
        total = len(rows) * sampling.steps
        teller = ProgressTeller(self._sink, self._control, "sample", total=total, interval=1.0)
        seeds = [sampling.seed + copy for _, _, copy in self._pictures]
        images = artist.draw(
            rows, negative, seeds=seeds, steps=sampling.steps, guidance=sampling.guidance, width=size, height=size,
            progress=teller,
        )  # fmt: skip
        self.folder.mkdir(parents=True, exist_ok=True)
        drawn = zip(self._pictures, self.files(step), seeds, images, strict=True)
        for (index, prompt, _), path, seed, image in drawn:
            aside = path.with_name(f".{path.name}")
            image.save(aside, format="PNG")
            aside.replace(path)
            self._sink.emit(Sample(
                step=step, epoch=epoch, prompt_index=index, prompt=prompt, seed=seed,
                path=str(path.relative_to(self._run_dir)), width=image.width, height=image.height, lora=lora,
            ))  # fmt: skip
