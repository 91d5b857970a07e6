"""The samples of a run: which pictures are drawn, where their files lie, and drawing them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from training.engine.control import Control
from training.engine.data.clips import write_clip
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
        suffix = "webp" if self._spec.training.frames > 1 else "png"
        return [
            self.folder / f"step-{step:08d}-p{index}{f'-{copy}' if copy else ''}.{suffix}"
            for index, _, copy in self._pictures
        ]

    def is_drawn(self, step: int) -> bool:
        """Tell whether every picture of a step is there; so it is where no prompt was given."""
        return all(path.exists() for path in self.files(step))

    def draw(
        self, artist: Artist, rows: Sequence[TextRow], negative: TextRow, *, step: int, epoch: int, lora: bool
    ) -> None:
        """Draw every picture from its encoded prompt and its fixed seed, and tell of each.

        Where clips are trained, each is a clip of as many frames, as animated WebP.
        """
        sampling, size, frames = (
            self._spec.sampling,
            self._spec.training.resolution,
            self._spec.training.frames,
        )
        total = len(rows) * sampling.steps
        teller = ProgressTeller(self._sink, self._control, "sample", total=total, interval=1.0)
        seeds = [sampling.seed + copy for _, _, copy in self._pictures]
        clips = artist.draw_clips(
            rows, negative, seeds=seeds, steps=sampling.steps, guidance=sampling.guidance, width=size, height=size,
            frames=frames, progress=teller,
        )  # fmt: skip
        self.folder.mkdir(parents=True, exist_ok=True)
        drawn = zip(self._pictures, self.files(step), seeds, clips, strict=True)
        for (index, prompt, _), path, seed, clip in drawn:
            image = clip[0]
            aside = path.with_name(f".{path.name}")
            if len(clip) == 1:
                image.save(aside, format="PNG")
            else:
                write_clip(aside, clip, artist.frame_rate)
            aside.replace(path)
            self._sink.emit(Sample(
                step=step, epoch=epoch, prompt_index=index, prompt=prompt, seed=seed,
                path=str(path.relative_to(self._run_dir)), width=image.width, height=image.height, lora=lora,
            ))  # fmt: skip
