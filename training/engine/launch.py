"""Run a specification in several processes: ``python -m training.engine.launch --ranks 2 --spec ... --run-dir ...``.

It is ``torchrun --standalone`` with the arguments and exit codes of ``child`` (docs/engine-protocol.md): when one
process ends before its time, the others are ended, and nothing is started again here.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.engine.child import prepare_environment
from training.engine.errors import ExitCode
from training.engine.forks import die_with_parent


def launch(options: argparse.Namespace) -> int:
    """Start the processes, wait for their end, and return the exit code of the run."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    options.run_dir.mkdir(parents=True, exist_ok=True)
    for stale in options.run_dir.glob("rank-*.error"):
        stale.unlink()
    arguments = [
        *["--standalone", "--nproc-per-node", str(options.ranks), "--max-restarts", "0"],
        *["--local-addr", "127.0.0.1", "--log-dir", str(options.run_dir / "ranks")],
        *["--module", "training.engine.rank", "--launcher", str(os.getpid())],
        *["--spec", str(options.spec), "--run-dir", str(options.run_dir)],
    ]
    for name in ("resume_from", "events_fd", "control_fd"):
        value = getattr(options, name)
        if value is not None:
            arguments += [f"--{name.replace('_', '-')}", str(value)]
    try:
        run(parse_args(arguments))
    except ChildFailedError as error:
        return _code(error.failures)
    except SignalException:
        return ExitCode.INTERRUPTED
    return ExitCode.DONE


def _code(failures: Mapping[int, Any]) -> int:
    """Return the exit code of the first process, which speaks for all, else of the one that ended first."""
    if 0 in failures:
        return int(failures[0].exitcode)
    return int(min(failures.values(), key=lambda failure: failure.timestamp).exitcode)


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and run; end by the signal by which a process of the run was ended."""
    parser = argparse.ArgumentParser(prog="training.engine.launch", description=__doc__)
    parser.add_argument("--ranks", type=int, required=True)
    parser.add_argument("--spec", type=Path, required=True)
    parser.add_argument("--run-dir", type=Path, required=True)
    parser.add_argument("--resume-from", type=Path)
    parser.add_argument("--events-fd", type=int)
    parser.add_argument("--control-fd", type=int)
    parser.add_argument("--parent", type=int, help="end with this process, which started this one")
    options = parser.parse_args(arguments)
    if options.parent is not None:
        die_with_parent(options.parent)
    prepare_environment()
    # One machine: nothing has to leave it, and nothing outside has to be resolved.
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        os.environ.setdefault(name, "lo")
    code = launch(options)
    if code < 0:
        signal.signal(-code, signal.SIG_DFL) if -code != signal.SIGKILL else None
        os.kill(os.getpid(), -code)
    return code


if __name__ == "__main__":
    sys.exit(main())
