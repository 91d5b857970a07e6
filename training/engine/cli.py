"""``lora-train``: run, check, estimate, export and examine the machine; ``lora_files.cli`` adds work on files."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from training.engine.errors import ConfigurationError, DataError, EngineError, ExitCode, Interrupted
from training.engine.events import Event, EventSink, EventWriter, Metrics, Phase
from training.engine.lora_files.cli import add_commands
from training.engine.short_names import in_sections
from training.engine.spec import RunSpec, SpecError, read_yaml, validate

SHOWN = ("code", "message", "hint", "path", "reason", "held_out_loss", "style_distance", "content_score")
"""Fields of events worth a line on the screen."""


class Console:
    """Print what a person wants to see while the file gets everything."""

    def __init__(self, writer: EventWriter) -> None:
        self._writer = writer
        self._phase = ""

    def emit(self, event: Event) -> None:
        """Write the event, and print a line where it is news."""
        self._writer.emit(event)
        if isinstance(event, Phase):
            if event.phase != self._phase:
                self._phase = event.phase
                self._line(f"{event.phase.replace('_', ' ')} ...")
        elif isinstance(event, Metrics):
            loss = event.series.get("loss")
            told = f"  loss {loss[-1][1]:.4f}" if loss else ""
            self._line(f"step {event.step}/{event.total_steps}{told}  {event.steps_per_second:.2f} steps/s  "
                       f"{event.eta_seconds:.0f} s left")  # fmt: skip
        else:
            shown = {name: getattr(event, name) for name in SHOWN if getattr(event, name, None)}
            self._line(f"{event.type}: " + ", ".join(f"{k} {v}" for k, v in shown.items()))

    @staticmethod
    def _line(text: str) -> None:
        print(text, flush=True)


def run(options: argparse.Namespace) -> int:
    """Train from a configuration file."""
    from training.engine.child import prepare_environment, quieten_libraries

    spec = RunSpec.load(options.config)
    prepare_environment()
    from training.engine import dist, hints
    from training.engine.api import LoRATrainer
    from training.engine.control import Control
    from training.engine.export.weights_file import run_folder
    from training.engine.rank import Silent, ignore_signals
    from training.engine.stall import StallWatch

    quieten_libraries()
    run_dir = options.run_dir or run_folder(spec)
    checkpoints = run_dir / "checkpoints"
    if checkpoints.exists() and not options.resume:
        print(
            f"{run_dir} has checkpoints; add --resume to go on, or choose another --run-dir.", file=sys.stderr
        )
        return ExitCode.CONFIGURATION
    control = Control()
    world = dist.join()  # alone, or one of those that torchrun started
    sink: EventSink
    if world.leads:
        control.catch_signals()
        sink = Console(EventWriter(run_dir / "events.jsonl"))
    else:
        ignore_signals()
        sink = Silent()
    try:
        with StallWatch(sink, sys.__stderr__ or sys.stderr) as watched:
            path = LoRATrainer(
                spec,
                run_dir=run_dir,
                sink=watched,
                control=control,
                resume_from=checkpoints if options.resume else None,
                device=dist.pick_rank_device() if world.size > 1 else None,
                world=world,
            ).run()
    except Interrupted:
        world.leave()
        if not world.leads:
            return ExitCode.INTERRUPTED
        print(f"Interrupted. Go on with: lora-train run {options.config} --run-dir {run_dir} --resume")
        return ExitCode.INTERRUPTED
    except Exception as error:
        if options.traceback:
            raise
        raise hints.explain(error, spec) from error
    world.leave()
    if world.leads:
        print(path)
    return ExitCode.DONE


def check(options: argparse.Namespace) -> int:
    """Report every mistake in a configuration file, and what is likely to disappoint with its pictures."""
    errors: list[SpecError] = []
    data = in_sections(read_yaml(options.config), errors)
    errors += validate(data)
    for error in errors:
        print(error)
    if errors:
        return ExitCode.CONFIGURATION
    from training.engine import preflight

    spec = RunSpec.load(options.config)
    for advice in preflight.look(spec):
        print(f"warning ({advice.code}): {advice.message} {advice.hint}{_changes(advice.patch)}")
    print(f"{options.config}: fine. Recipe {spec.recipe_sha256()[:12]}")
    return ExitCode.DONE


def _changes(patch: Mapping[str, Any] | None) -> str:
    """Return the settings that would help, one a line, as a configuration file has them."""
    lines = (
        f"{pointer.strip('/').replace('/', '.')}: {json.dumps(v)}" for pointer, v in (patch or {}).items()
    )
    return "".join(f"\n  {line}" for line in lines)


def show_estimate(options: argparse.Namespace) -> int:
    """Say how long a run will take and what it needs."""
    from training.engine.data.manifest import read_items
    from training.engine.estimate import DEVICES, estimate
    from training.engine.profiles import profile_of

    spec = RunSpec.load(options.config)
    images = options.images if options.images is not None else len(read_items(spec.dataset))
    model = profile_of(spec.base_model.family, Path(spec.base_model.path))
    device = DEVICES[options.device]
    result = estimate(spec, images, device=device, model=model, seconds_per_step=options.seconds_per_step)
    print(f"base       {model.title}")
    print(f"steps      {result.total_steps} ({result.epochs} epochs of {result.steps_per_epoch})")
    print(
        f"time       about {result.seconds / 60:.1f} minutes{'' if result.measured else ' (rule of thumb)'}"
    )
    print(f"memory     about {result.memory_mb} MB{'' if result.fits else ' - does not fit'}")
    if device.bytes_per_weight != 4:
        print(f"host       about {result.host_mb} MB")
    if result.largest_batch:
        print(f"batch      up to {result.largest_batch} pictures at once fit {device.name}")
    else:
        print(f"batch      not even one picture fits {device.name} with these settings")
    return ExitCode.DONE


def export(options: argparse.Namespace) -> int:
    """Write the file of a checkpoint again, for example in another number format.

    The file of a step before the last is named after its step, so that the finished one stays.
    """
    import dataclasses

    from training.engine.child import prepare_environment, quieten_libraries

    prepare_environment()
    from training.engine.api import LoRATrainer

    quieten_libraries()
    if not (options.run_dir / "run.json").is_file():
        raise ConfigurationError(
            "run_missing", f"{options.run_dir} is not the folder of a run: it has no run.json",
            hint="Give the folder that `lora-train run` was told as --run-dir.",
        )  # fmt: skip
    spec = RunSpec.load(options.run_dir / "run.json")
    if options.dtype:
        spec = dataclasses.replace(spec, output=dataclasses.replace(spec.output, dtype=options.dtype))
    if options.name:
        spec = dataclasses.replace(spec, name=options.name)
    chosen = _whole_checkpoint(options.run_dir / "checkpoints", options.checkpoint)
    trainer = LoRATrainer(spec, run_dir=options.run_dir, resume_from=chosen)
    trainer.prepare_data()
    trainer.build_model()
    step = trainer.state.step
    is_early = options.checkpoint or step < trainer.dataset.plan.total_steps
    print(trainer.export_lora_weights(suffix=f"-step{step:08d}" if is_early and not options.name else ""))
    return ExitCode.DONE


def _whole_checkpoint(folder: Path, name: str | None) -> Path:
    """Return the checkpoint of that name, or the newest whole one; raise if it is not there or damaged."""
    from training.engine import checkpoint

    there = [path.name for path in checkpoint.find(folder)]
    hint = f"There are: {', '.join(there)}." if there else "The run has not saved one yet."
    if name is None:
        loaded, passed = checkpoint.load_newest(folder)
        for problem in passed:
            print(f"passed over: {problem}", file=sys.stderr)
        if loaded is None:
            raise DataError("checkpoint_missing", f"{folder} holds no whole checkpoint", hint=hint)
        return loaded.path
    if name not in there:
        raise ConfigurationError("checkpoint_missing", f"there is no {name!r} in {folder}", hint=hint)
    try:
        return checkpoint.load(folder / name).path
    except ValueError as error:
        raise DataError("checkpoint_damaged", str(error), hint=hint) from error


def families(options: argparse.Namespace) -> int:
    """List the model families, methods, optimizers, samplers and captioners that are installed."""
    from training.engine import registry

    for name in registry.family_names():
        try:
            title = registry.load_family(name).title
        except ConfigurationError as error:
            title = f"broken: {error}"
        print(f"family  {name:12} {title}")
    for name in registry.method_names():
        print(f"method  {name}")
    for name in registry.optimizer_names():
        print(f"optimizer  {name}")
    for name in registry.sampler_names():
        print(f"sampler  {name}")
    for name in registry.captioner_names():
        print(f"captioner  {name}")
    return ExitCode.DONE


def schema(options: argparse.Namespace) -> int:
    """Print the JSON Schema of a configuration file, for editors."""
    from training.engine.schema import json_schema

    print(json.dumps(json_schema(), indent=1, ensure_ascii=False))
    return ExitCode.DONE


def settings(options: argparse.Namespace) -> int:
    """Print every setting with its values, unit, default and meaning, as Markdown."""
    from training.engine.schema import settings_page

    print(settings_page(), end="")
    return ExitCode.DONE


def doctor(options: argparse.Namespace) -> int:
    """Check everything that training on this machine needs, and say what to do about what is missing."""
    import dataclasses

    from training.engine.child import prepare_environment

    prepare_environment()
    from training.engine.doctor import Places, examine

    found = []
    places = Places(options.run_dir, options.cache_dir or options.run_dir / "cache")
    for finding in examine(places, quick=options.quick):
        found.append(finding)
        if not options.json:
            print(f"{finding.state:8} {finding.name:20} {finding.detail}", flush=True)
            if finding.fix and finding.state != "ok":
                print(f"{'':29} {finding.fix}", flush=True)
    failed = [finding.name for finding in found if finding.state == "failed"]
    if options.json:
        print(
            json.dumps({"ok": not failed, "findings": [dataclasses.asdict(each) for each in found]}, indent=1)
        )
    elif failed:
        print(f"{len(failed)} of {len(found)} are broken: {', '.join(failed)}")
    else:
        print(f"All {len(found)} are well, or only warned of.")
    return 1 if failed else ExitCode.DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lora-train", description="Train LoRAs from a configuration file.")
    commands = parser.add_subparsers(dest="command", required=True)

    def add(name: str, function: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        summary = (function.__doc__ or "").splitlines()[0]
        command = commands.add_parser(name, help=summary, description=summary)
        command.set_defaults(function=function)
        return command

    command = add("run", run)
    command.add_argument("config", type=Path)
    command.add_argument(
        "--run-dir", type=Path, help="folder of the run (default: run_dir of the file, else runs/<name>)"
    )
    command.add_argument("--resume", action="store_true", help="go on from the newest checkpoint")
    command.add_argument("--traceback", action="store_true", help="show where an error came from")
    add("validate", check).add_argument("config", type=Path)
    from training.engine.estimate import DEVICES

    command = add("estimate", show_estimate)
    command.add_argument("config", type=Path)
    command.add_argument("--images", type=int, help="number of pictures, instead of counting them")
    command.add_argument("--device", choices=list(DEVICES), default="cpu")
    command.add_argument("--seconds-per-step", type=float, help="as measured on an earlier run")
    command = add("export", export)
    command.add_argument("run_dir", type=Path)
    command.add_argument("--checkpoint", help="step-00000120 (default: the newest)")
    command.add_argument("--dtype", choices=("fp16", "bf16", "fp32"))
    command.add_argument("--name", help="another name for the file")
    add("families", families)
    add("schema", schema)
    add("settings", settings)
    command = add("doctor", doctor)
    command.add_argument(
        "--run-dir", type=Path, default=Path("runs"), help="where runs will be (default: runs)"
    )
    command.add_argument("--cache-dir", type=Path, help="where caches will be (default: in the run folder)")
    command.add_argument("--quick", action="store_true", help="do not train the tiny model on each device")
    command.add_argument("--json", action="store_true", help="print the findings as JSON")
    add_commands(add)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.function(options)
        return code
    except EngineError as error:
        print(f"error ({error.code}): {error}", file=sys.stderr)
        if error.hint:
            print(f"  {error.hint}{_changes(error.patch)}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return ExitCode.DATA


if __name__ == "__main__":
    sys.exit(main())
