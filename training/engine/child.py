"""One run in one process: ``python -m training.engine.child --spec FILE --run-dir DIR``, or a fork of a ready one."""

from __future__ import annotations

import argparse
import gc
import os
import sys
import traceback
from pathlib import Path

from training.engine import hints
from training.engine.control import Control
from training.engine.errors import EngineError, ExitCode, Interrupted
from training.engine.events import Error, EventWriter, InterruptedEvent, Log
from training.engine.spec import RunSpec, read_yaml


def prepare_environment() -> None:
    """Set what must be set before torch is imported: threads that sleep when idle, and no network."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "0")
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TRANSFORMERS_OFFLINE"] = "1"
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")


def run(
    spec_path: Path, run_dir: Path, *, resume_from: Path | None = None, events_fd: int | None = None,
    control_fd: int | None = None,
) -> int:  # fmt: skip
    """Run a specification to its end and return the exit code; every failure is told as an event."""
    run_dir.mkdir(parents=True, exist_ok=True)
    writer = EventWriter(run_dir / "events.jsonl", events_fd)
    step = 0

    def before_exit(reason: str) -> None:
        trainer_state = getattr(trainer, "state", None) if trainer is not None else None
        writer.emit_last(InterruptedEvent(trainer_state.step if trainer_state else step, reason, None))

    trainer = None
    control = Control(before_exit=before_exit)
    control.catch_signals()
    if control_fd is not None:
        control.listen(control_fd)
    try:
        order = read_yaml(spec_path)
        kind = order.get("kind", "training") if isinstance(order, dict) else "training"
        if kind != "training":
            from training.engine.errands import run_errand

            quieten_libraries()
            gc.freeze()
            run_errand(kind, order, run_dir=run_dir, sink=writer, control=control)
            return ExitCode.DONE
        spec = RunSpec.load(spec_path)
        from training.engine.api import LoRATrainer

        quieten_libraries()
        gc.freeze()  # a full collection over all that was imported takes half a second
        trainer = LoRATrainer(spec, run_dir=run_dir, sink=writer, control=control, resume_from=resume_from)
        trainer.run()
        return ExitCode.DONE
    except Interrupted:
        return ExitCode.INTERRUPTED
    except BaseException as error:
        traceback.print_exc()
        explained = hints.explain(error, trainer.spec if trainer is not None else None)
        _tell(writer, explained)
        return explained.exit_code


def _tell(writer: EventWriter, error: EngineError) -> None:
    told = (Log("error", str(error)), Error(error.code, error.category, str(error), error.hint, error.patch))
    for event in told:
        try:
            writer.emit(event)
        except OSError:
            sys.stderr.write(f"{error.code}: {error}\n")


def quieten_libraries() -> None:
    """Keep progress bars and advice for interactive use out of the log."""
    import diffusers
    import transformers

    diffusers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line of docs/engine-protocol.md and run."""
    parser = argparse.ArgumentParser(prog="training.engine.child", description=__doc__)
    parser.add_argument("--spec", type=Path, required=True)
    parser.add_argument("--run-dir", type=Path, required=True)
    parser.add_argument("--resume-from", type=Path)
    parser.add_argument("--events-fd", type=int)
    parser.add_argument("--control-fd", type=int)
    options = parser.parse_args(arguments)
    prepare_environment()
    return run(
        options.spec, options.run_dir, resume_from=options.resume_from, events_fd=options.events_fd,
        control_fd=options.control_fd,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
