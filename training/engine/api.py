"""The library's front door: prepare the data, build the model, train, export."""

from __future__ import annotations

import json
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from training.engine import ENGINE_VERSION, checkpoint, evaluate, foundation, warm_up
from training.engine.checkpoint import Identity, TrainState
from training.engine.class_pictures import class_pictures
from training.engine.control import Control
from training.engine.data.checks import check_masks, check_set
from training.engine.data.dataset import Dataset
from training.engine.data.identity import ModelIdentity
from training.engine.device import pick_device, pick_precision
from training.engine.dist import World
from training.engine.errors import DataError, Interrupted
from training.engine.events import (
    Checkpoint,
    Done,
    EventSink,
    EventWriter,
    Export,
    InterruptedEvent,
    Log,
    Phase,
    Warning,
)
from training.engine.export import metadata
from training.engine.export.factors import VerificationError
from training.engine.export.files import file_of
from training.engine.export.table import chosen_table
from training.engine.export.weights_file import DTYPES, file_stem, run_folder, write
from training.engine.families.base import Parts, TextRow
from training.engine.gallery import Gallery
from training.engine.loop import TrainingLoop
from training.engine.memory_plan import MemoryPlan
from training.engine.methods.base import Adapter
from training.engine.optimizer import Optimizer
from training.engine.probe import count_weights
from training.engine.progress import ProgressTeller
from training.engine.registry import load_family, load_method, load_optimizer, load_sampler
from training.engine.sample import Artist
from training.engine.spec import RunSpec
from training.engine.step import StepComputer
from training.engine.training_adapter import TrainingAdapter, require_trainable


class LoRATrainer:
    """Train one LoRA from a specification, in a run folder.

    The four public steps are called in order, or ``run`` calls them all. A run folder that has checkpoints is resumed
    only when ``resume_from`` says so.
    """

    def __init__(
        self,
        config: RunSpec | Path | str,
        *,
        run_dir: Path | None = None,
        sink: EventSink | None = None,
        control: Control | None = None,
        resume_from: Path | None = None,
        device: torch.device | None = None,
        base: Parts | None = None,
        world: World | None = None,
    ) -> None:
        """Take a RunSpec or the path of a YAML or JSON file; ``base`` replaces loading from the spec's path.

        ``world`` are the processes that train it together, each with a trainer of its own. Raise ConfigurationError for
        a name in the recipe that nothing installed has.
        """
        self.spec = config if isinstance(config, RunSpec) else RunSpec.load(Path(config))
        self.run_dir = run_dir or run_folder(self.spec)
        self.sink: EventSink = sink or EventWriter(self.run_dir / "events.jsonl")
        self.control = control or Control()
        self.family = load_family(self.spec.base_model.family)
        self.method = load_method(self.spec.method.type)
        self.sampler = load_sampler(self.spec.sampling.sampler)
        self.table = chosen_table(self.family.exports, self.spec.output.layout, self.family.title)
        load_optimizer(
            self.spec.training.optimizer
        )  # is there: the caches may take hours to fill before it is made
        self.device = device or pick_device()
        self.precision = pick_precision(self.spec.training.precision, self.device)
        self.cache_dir = Path(self.spec.cache_dir) if self.spec.cache_dir else self.run_dir / "cache"
        self._resume_from = resume_from
        self.given_base = base
        self.world = world or World()
        self._started = datetime.now(UTC)
        self._clock_start = time.monotonic()
        self.gallery = Gallery(self.spec, self.run_dir, self.sink, self.control)
        self._negative = self.family.negative(self.spec.sampling.negative)

    def run(self) -> Path:
        """Do all four steps; return the exported file. Interruptions are told as events and raised.

        Of several processes only the leader has a file to return; the others return the run folder.
        """
        try:
            self.world.in_turn(self.prepare_data)
            self.build_model()
            self.world.lead(self._open_folder)
            finished = self.train()
            path = self.world.lead(self.export_lora_weights) or self.run_dir
            if finished:
                self.world.lead(self.evaluate)
        except Interrupted as interrupted:
            self._tell_interrupted(interrupted.reason)
            raise
        seconds = time.monotonic() - self._clock_start
        self.sink.emit(Done(self.state.step, self.dataset.plan.total_steps, round(seconds, 2)))
        return path

    # -- data ----------------------------------------------------------------------------------------------------------

    def prepare_data(self) -> None:
        """Read pictures and captions and choose buckets; raise DataError for what cannot be read."""
        self.family.require_frames(self.spec.training.frames)
        drawn = class_pictures(self)
        self.sink.emit(Phase("fetch_data", 0, 1))
        self.dataset = Dataset(self.spec, self.family.divisor, drawn)
        total = len(self.dataset.samples) + len(self.dataset.held_out)
        self.sink.emit(Phase("fetch_data", total, total))
        for warning in check_set(self.dataset):
            self.sink.emit(warning)

    # -- model ---------------------------------------------------------------------------------------------------------

    def build_model(self) -> None:
        """Load the base model, attach the adapter, fill the caches and find the fastest setting."""
        self.world.lead(self.control.check)
        if self.spec.threads:
            torch.set_num_threads(self.spec.threads)
        elif self.device.type == "cpu":
            torch.set_num_threads(warm_up.most_threads(self))
        loaded = self._checkpoint()
        self.is_resumed = loaded is not None
        self.state = loaded.state if loaded else TrainState(threads=self.spec.threads)
        if loaded and loaded.identity.get("precision") in foundation.wishes(self).precision:
            self.precision = loaded.identity["precision"]
        self.sink.emit(Phase("load_base", 0, 1))
        self.parts = foundation.load(self)
        require_trainable(self.family, self.parts, self.spec.base_model)
        self.method.check(self.family, self.parts, self.spec)
        self.training_adapter = TrainingAdapter(self.spec.base_model.training_adapter, self.sink)
        self.base_sha256 = self.world.in_turn(self._digest)
        self.sink.emit(Phase("load_base", 1, 1))
        if loaded:
            checkpoint.require_same(self._identity(), loaded)
        self.world.in_turn(self._fill_caches)
        if self.device.type != "cpu" and not self.method.changes_text(self.spec):
            for encoder in self.parts.text_encoders.values():
                encoder.to("cpu")

        weights = count_weights(self.parts.denoiser)
        self.take_up(foundation.saved_plan(self, loaded) if loaded else warm_up.first_plan(self, weights))
        foundation.lend(self.parts, self.device)
        foundation.settle(self.parts.denoiser, self.plan, self.device)
        self.attach()
        if loaded:
            self._restore(loaded)
        warm_up.prepare(self, weights, is_new=loaded is None)
        warm_up.tell(self)

    def take_up(self, plan: MemoryPlan) -> None:
        """Compute from now on in the way of a plan."""
        self.plan, self.precision = plan, plan.precision
        state = self.state
        state.quantise, state.offload = plan.quantise, plan.offload
        state.gradient_checkpointing, state.micro_batch = plan.gradient_checkpointing, plan.micro_batch

    def attach(self) -> None:
        """Attach a fresh adapter to the base model, with all that computes with both."""
        self.adapter: Adapter = self.method.attach(self.family, self.parts, self.spec)
        self.file = file_of(self.family, self.table, self.parts, self.adapter)
        self.training_adapter.put_on(self.family, self.parts)
        self.optimizer = Optimizer(self.adapter.groups(), self.spec.training, self.dataset.plan.total_steps)
        self._place_adapter()
        self.computer = StepComputer(
            self.spec, self.family, self.parts, self.dataset, self.precision, self.world,
            live_text=self.method.changes_text(self.spec), adapter=self.adapter,
        )  # fmt: skip
        self.artist = Artist(self.family, self.parts, self.precision, self.sampler)

    def detach(self) -> None:
        """Take the adapter off the base model, and let go of both."""
        self.adapter.detach()
        del self.adapter

    def _place_adapter(self) -> None:
        """Bring the adapter to the device: it is made where its layer's weights lie, which may be the host's memory."""
        for parameter in self.optimizer.parameters:
            parameter.data = parameter.data.to(self.device)

    def _digest(self) -> str:
        identity = ModelIdentity(self.cache_dir / "identity.json")
        return identity.sha256([self.parts.folder]) if self.parts.folder else "unsaved"

    def _fill_caches(self) -> None:
        identity = ModelIdentity(self.cache_dir / "identity.json")
        latents = ProgressTeller(self.sink, self.control, "cache_latents")
        self.dataset.cache_latents(self.family, self.parts, self.cache_dir, identity, latents)
        latents.finish(len(self.dataset.samples) + len(self.dataset.held_out))
        for warning in check_masks(self.dataset):
            self.sink.emit(warning)
        texts = [*self.dataset.all_texts(), *self.gallery.prompts, self._negative]
        text = ProgressTeller(self.sink, self.control, "cache_text")
        self.dataset.cache_texts(self.family, self.parts, self.cache_dir, identity, texts, text)
        text.finish(len(set(texts)))

    def _identity(self) -> Identity:
        recipe = self.spec.recipe()
        if self.training_adapter.sha256:
            recipe["base_model"]["training_adapter"] = self.training_adapter.sha256
        return Identity(
            recipe, self.dataset.sha256, self.base_sha256, self.dataset.plan.total_steps, self.precision,
            ENGINE_VERSION,
        )  # fmt: skip

    def _checkpoint(self) -> checkpoint.Loaded | None:
        """Read the checkpoint to go on from; tell what was passed over."""
        if self._resume_from is None:
            return None
        loaded, passed = checkpoint.load_newest(self._resume_from)
        for problem in passed:
            self.sink.emit(Warning(
                "checkpoint_damaged", f"A checkpoint was passed over: {problem}.",
                hint="The one before it is used; a few steps are made again.",
            ))  # fmt: skip
        if loaded is None:
            self.sink.emit(Log("warning", "No whole checkpoint was found; the run starts at step 0."))
        return loaded

    def _restore(self, loaded: checkpoint.Loaded) -> None:
        self.adapter.load_state_dict(loaded.adapter)
        self.optimizer.load_state_dict(loaded.optimizer)

    # -- training --------------------------------------------------------------------------------------------------

    def train(self) -> bool:
        """Make all steps; return False after a request to stop and keep. Raise Interrupted, EngineError."""
        plan = self.dataset.plan
        if plan.total_steps < 1:
            raise DataError("no_steps", "there is nothing to train")
        self.loop = TrainingLoop(
            spec=self.spec, plan=plan, parts=self.parts, adapter=self.adapter, computer=self.computer,
            optimizer=self.optimizer, state=self.state, sink=self.sink, control=self.control, borders=self,
            world=self.world,
        )  # fmt: skip
        return self.loop.run()

    def is_drawn(self, step: int) -> bool:
        """Tell whether the samples of a step are there already; step 0 is the adapter off."""
        return bool(self.world.agree(self.gallery.is_drawn(step)))

    def draw(self, step: int, *, lora: bool) -> None:
        """Draw every prompt with its fixed seed; of several processes only the leader does."""
        self.world.lead(lambda: self._draw(step, lora=lora))

    def _draw(self, step: int, *, lora: bool) -> None:
        plan = self.dataset.plan
        averaged = self.optimizer.averaged() if lora else self.adapter.disabled()
        with self.training_adapter.off(), averaged:
            self.gallery.draw(
                self.artist, self.text_rows(self.gallery.prompts), self.text_rows([self._negative])[0],
                step=step, epoch=-(-step // plan.steps_per_epoch), lora=lora,
            )  # fmt: skip
        self.sink.emit(Phase("train", self.state.step, plan.total_steps))

    def text_rows(self, texts: list[str]) -> list[TextRow]:
        """Return encoded texts: from the cache, or from the live encoder when that is trained."""
        if self.method.changes_text(self.spec):
            with torch.no_grad():
                return self.family.encode_text(self.parts, texts)
        return [self.dataset.text_row(text) for text in texts]

    def save(self, step: int) -> None:
        """Write a resumable checkpoint and, unless nothing was learned yet, the file made from it."""
        self.world.lead(lambda: self._save(step))

    def _save(self, step: int) -> None:
        folder = checkpoint.save(
            self.run_dir / "checkpoints", adapter=self.adapter.state_dict(), optimizer=self.optimizer.state_dict(),
            state=self.state, identity=self._identity(), keep=self.spec.checkpoint.keep,
        )  # fmt: skip
        export, digest = None, None
        try:
            with self.optimizer.averaged():
                export, digest, _, _ = self._write_export(f"{file_stem(self.spec.name)}-step{step:08d}", step)
        except VerificationError as error:
            if error.code != "export_empty":
                raise
        self.sink.emit(Checkpoint(
            step=step, epoch=-(-step // self.dataset.plan.steps_per_epoch),
            path=str(folder.relative_to(self.run_dir)), bytes=sum(p.stat().st_size for p in folder.iterdir()),
            export=str(export.relative_to(self.run_dir)) if export else None,
            export_bytes=export.stat().st_size if export else 0, export_sha256=digest,
        ))  # fmt: skip

    def roll_back(self) -> int:
        """Put the last checkpoint back into the live model, or the fresh adapter when there is none."""
        loaded, _ = checkpoint.load_newest(self.run_dir / "checkpoints")
        if loaded is None:
            self.adapter.initialise(self.spec.training.seed)
            self._place_adapter()
            self.optimizer.load_state_dict({})
            self.state.step = 0
            return 0
        self._restore(loaded)
        self.state.step = loaded.state.step
        return self.state.step

    # -- result ----------------------------------------------------------------------------------------------------

    def export_lora_weights(self, *, suffix: str = "") -> Path:
        """Write the finished file, prove that it does what was trained, and return its path.

        ``suffix`` is added to its name.
        """
        self.sink.emit(Phase("export", 0, 1))
        with self.training_adapter.off(), self.optimizer.averaged():
            path, digest, read, count = self._write_export(
                file_stem(self.spec.name) + suffix, self.state.step
            )
            family = foundation.alike(self.family, self.plan)
            prompt = self.dataset.text(self.dataset.train[0])
            text = self.text_rows([prompt])[0]
            error = self.file.effect_error(read, family, prompt, text, self.precision)
        self.sink.emit(
            Log("info", f"The file was loaded again; its effect differs from the trained one by {error:.2e}.")
        )
        self.sink.emit(Export(
            path=str(path.relative_to(self.run_dir)), bytes=path.stat().st_size, sha256=digest,
            keys=count, format=self.file.layout, name=path.name,
        ))  # fmt: skip
        self.sink.emit(Phase("export", 1, 1))
        return path

    def _write_export(self, stem: str, step: int) -> tuple[Path, str, Any, int]:
        path = self.run_dir / "exports" / f"{stem}.safetensors"
        dtype = self.file.dtype if self.spec.output.dtype == "auto" else self.spec.output.dtype
        content = self.file.tensors(DTYPES[dtype])
        about = metadata.build(
            self.spec, self.family, self.parts, self.dataset, base_sha256=self.base_sha256, step=step,
            precision=self.precision, started=self._started, training_adapter_sha256=self.training_adapter.sha256,
        )  # fmt: skip
        digest = write(path, content, about)
        try:
            return path, digest, self.file.read(path), len(content)
        except VerificationError:
            path.unlink(missing_ok=True)
            raise

    def evaluate(self) -> None:
        """Tell the three figures of ``evaluate`` with the adapter off and on; one that fails is a warning."""
        teller = ProgressTeller(self.sink, self.control, "evaluate", total=1, interval=1.0)
        with self.optimizer.averaged():
            figures = evaluate.evaluate(self, teller)
        self.sink.emit(figures)
        teller.finish(1)

    # -- housekeeping ----------------------------------------------------------------------------------------------

    def _open_folder(self) -> None:
        """Write run.json anew, and drop samples that another run or other prompts left in this folder.

        Only now: a recipe that its checkpoint refused must not replace the one that belongs to it.
        """
        path, spec = self.run_dir / "run.json", self.spec.to_dict()
        if not self.is_resumed or _sampling_of(path) != spec["sampling"]:
            shutil.rmtree(self.gallery.folder, ignore_errors=True)
        self.run_dir.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(spec, indent=1, ensure_ascii=False), encoding="utf-8")

    def _tell_interrupted(self, reason: str) -> None:
        state = getattr(self, "state", None)
        newest = checkpoint.find(self.run_dir / "checkpoints")
        self.sink.emit(InterruptedEvent(
            state.step if state else 0, reason, str(newest[0].relative_to(self.run_dir)) if newest else None
        ))  # fmt: skip


def _sampling_of(run_json: Path) -> object:
    """Return what a run folder was drawn with, None if it does not say."""
    try:
        return json.loads(run_json.read_text(encoding="utf-8"))["sampling"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
