"""From nothing to a running training: `python -m bench.start`.

Clones the repository into a folder of its own, runs `make setup` and `make up` there as a newcomer would, and waits for
the demo training; then stops and starts it once more. Printed: seconds for each part. Packages come from the
installer's cache if it has them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg

ROOT = Path(__file__).resolve().parent.parent
LONGEST = 900  # seconds


def start(folder: Path) -> tuple[subprocess.Popen[bytes], float]:
    """Run `make up` in `folder` and return the process and the seconds until its address was printed."""
    output = folder / "up.txt"
    began = time.monotonic()
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("LF_", "DJANGO_"))
    }
    for name in ("DATABASE_URL", "REDIS_URL", "VIRTUAL_ENV"):
        environment.pop(name, None)
    with output.open("wb") as target:
        process = subprocess.Popen(
            ["make", "up", "ARGS=--port 8471"],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=target,
            stderr=target,
            start_new_session=True,
        )
    wait_for(lambda: "LoRA Foundry runs at" in output.read_text(errors="replace"), process)
    return process, time.monotonic() - began


def wait_for(condition: Any, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + LONGEST
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("it did not come so far")
        time.sleep(0.1)


def training(folder: Path) -> dict[str, Any]:
    """Return when the demo training was queued, begun, made its first step and ended, as far as it has come."""
    address = json.loads((folder / "var" / "run" / "services.json").read_text())["DATABASE_URL"]
    query = """
        SELECT extract(epoch FROM j.created_at), extract(epoch FROM j.started_at),
               (SELECT extract(epoch FROM min(e.at)) FROM training_jobevent e
                WHERE e.job_id = j.id AND e.type = 'metrics'),
               extract(epoch FROM j.finished_at), j.state
        FROM training_trainingjob j ORDER BY j.id LIMIT 1
    """
    with psycopg.connect(address) as connection:
        row = connection.execute(query).fetchone()
    names = ("queued", "started", "first_step", "finished", "state")
    return dict(zip(names, row, strict=True)) if row else {}


def stop(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGINT)
    process.wait(60)


def main() -> int:
    folder = Path(tempfile.mkdtemp(prefix="lora-foundry-start-"))
    folder.chmod(0o755)  # as root, PostgreSQL runs as another user
    clone = folder / "lora-foundry"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    began = time.monotonic()
    began_at = time.time()
    setup = subprocess.run(["make", "setup"], cwd=clone, capture_output=True, text=True, check=True)
    print(f"set-up                         {time.monotonic() - began:6.1f} s")
    for part, seconds in re.findall(r"==>(?:\x1b\[0m)? (.+?)\n(?:[^=]*?\n)?\s+(\d+) s", setup.stdout):
        print(f"  {part[:40]:<40} {seconds} s")
    process, seconds = start(clone)
    print(f"first start                    {seconds:6.1f} s")
    try:
        wait_for(lambda: training(clone).get("first_step"), process)
        found = training(clone)
        print(f"from nothing to the first step {float(found['first_step']) - began_at:6.1f} s")
        print(f"from its claim to its first step {float(found['first_step'] - found['started']):4.1f} s")
        wait_for(lambda: training(clone).get("finished"), process)
        found = training(clone)
        print(
            f"the training                   {float(found['finished'] - found['started']):6.1f} s, {found['state']}"
        )
    finally:
        stop(process)
    process, seconds = start(clone)
    stop(process)
    print(f"second start                   {seconds:6.1f} s")
    shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
