"""One of the processes of a run on several GPUs: ``python -m training.engine.rank``, started by ``launch``.

The first one is to its supervisor what a run in one process is. The others are silent: they take no request, write
nothing but the log, and leave a file where they fail, so that the first one can tell why.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import traceback
from pathlib import Path

from training.engine import hints
from training.engine.child import prepare_environment, quieten_libraries
from training.engine.control import Control
from training.engine.errors import EngineError, ExitCode, Interrupted
from training.engine.events import Error, Event, EventSink, EventWriter, InterruptedEvent, Log
from training.engine.forks import die_with_parent
from training.engine.spec import RunSpec


class Silent:
    """Tell nobody."""

    def emit(self, event: Event) -> None:
        """Drop an event."""


def ignore_signals() -> None:
    """Leave SIGTERM and SIGINT to the leader: it saves, and tells the others when it is time to go."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def run(
    spec_path: Path, run_dir: Path, *, resume_from: Path | None, events_fd: int | None, control_fd: int | None,
    launcher: int,
) -> int:  # fmt: skip
    """Run this process's part of a specification and return the exit code."""
    die_with_parent(launcher)
    run_dir.mkdir(parents=True, exist_ok=True)
    leads = os.environ["RANK"] == "0"
    sink: EventSink = Silent()
    control = Control()
    trainer = None
    spec: RunSpec | None = None
    if leads:
        writer = EventWriter(run_dir / "events.jsonl", _of_launcher(launcher, events_fd, os.O_WRONLY))
        sink = writer

        def before_exit(reason: str) -> None:
            state = getattr(trainer, "state", None)
            writer.emit_last(InterruptedEvent(state.step if state else 0, reason, None))

        control = Control(before_exit=before_exit)
        control_fd = _of_launcher(launcher, control_fd, os.O_RDONLY)
        if control_fd is not None:
            control.listen(control_fd)
    else:
        ignore_signals()
    try:
        from training.engine import dist
        from training.engine.api import LoRATrainer

        quieten_libraries()
        world = dist.join(lambda: _end(sink, run_dir, leads, dist.RankLost("it has ended")))
        if leads:
            control.catch_signals()
        spec = RunSpec.load(spec_path)
        trainer = LoRATrainer(
            spec, run_dir=run_dir, sink=sink, control=control, resume_from=resume_from,
            device=dist.pick_rank_device(), world=world,
        )  # fmt: skip
        try:
            trainer.run()
        except Interrupted:
            if world.leave():
                return ExitCode.INTERRUPTED
            raise dist.RankLost("it has ended") from None
        world.leave()
        return ExitCode.DONE
    except BaseException as error:
        traceback.print_exc()
        return _end(sink, run_dir, leads, hints.explain(error, spec))


def _of_launcher(launcher: int, fd: int | None, flags: int) -> int | None:
    """Open again a pipe that the launcher holds: ``torchrun`` passes no descriptors on."""
    return None if fd is None else os.open(f"/proc/{launcher}/fd/{fd}", flags)


def _end(sink: EventSink, run_dir: Path, leads: bool, error: EngineError) -> int:
    """Tell why this process ends and return its exit code; the leader tells what made another one end."""
    if not leads:
        if error.code != "rank_lost":
            _leave_cause(run_dir, error)
        return error.exit_code
    code: int = error.exit_code
    event = Error(error.code, error.category, str(error), error.hint, error.patch)
    cause = _cause(run_dir) if error.code == "rank_lost" else None
    if cause is not None:
        event, code = cause
    try:
        sink.emit(Log("error", event.message))
        sink.emit(event)
    except OSError:
        sys.stderr.write(f"{event.code}: {event.message}\n")
    return code


def _leave_cause(run_dir: Path, error: EngineError) -> None:
    path = run_dir / f"rank-{os.environ['RANK']}.error"
    aside = path.with_suffix(".new")
    content = [int(error.exit_code), [error.code, error.category, str(error), error.hint, error.patch]]
    aside.write_text(json.dumps(content), encoding="utf-8")
    aside.replace(path)


def _cause(run_dir: Path) -> tuple[Error, int] | None:
    """Return what another process of this run said before it ended, with its exit code."""
    for path in sorted(run_dir.glob("rank-*.error")):
        code, fields = json.loads(path.read_text(encoding="utf-8"))
        return Error(*fields), int(code)
    return None


def main(arguments: list[str] | None = None) -> int:
    """Parse what ``launch`` passes on and run."""
    parser = argparse.ArgumentParser(prog="training.engine.rank", description=__doc__)
    parser.add_argument("--spec", type=Path, required=True)
    parser.add_argument("--run-dir", type=Path, required=True)
    parser.add_argument("--resume-from", type=Path)
    parser.add_argument("--events-fd", type=int)
    parser.add_argument("--control-fd", type=int)
    parser.add_argument("--launcher", type=int, required=True)
    options = parser.parse_args(arguments)
    prepare_environment()
    return run(
        options.spec, options.run_dir, resume_from=options.resume_from, events_fd=options.events_fd,
        control_fd=options.control_fd, launcher=options.launcher,
    )  # fmt: skip


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # At once: the way out of torch's process groups waits for processes that may be gone.
    os._exit(code)
