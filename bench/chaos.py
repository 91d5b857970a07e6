"""Kill everything in the middle of a training and show that nothing is lost: `python bench/chaos.py`.

Starts the whole platform in a folder of its own, trains the demo model once undisturbed, then once more while it
kills (-9) the engine, the worker, the web server and Valkey. A browser's socket stays open throughout. Compared at
the end: the weights bit for bit, every step, every event, every billed second.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "platform")]


class Platform:
    """The platform under test: one `manage.py up` with short leases."""

    def __init__(self, var: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        os.environ.update(
            LF_VAR_DIR=str(var),
            LF_LEASE_SECONDS="15",
            LF_LEASE_RENEW_SECONDS="3",
            LF_ENGINE_LEASE_SECONDS="10",
            DJANGO_SETTINGS_MODULE="config.settings",
        )
        for name in ("DATABASE_URL", "REDIS_URL"):
            os.environ.pop(name, None)
        with (var / "up.log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "up", "--no-demo", "--port", str(self.port)],
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def find(self, *words: str) -> psutil.Process:
        """Return the one process of the platform whose command line has all `words`."""
        found = []
        for process in psutil.Process(self.process.pid).children(recursive=True):
            try:
                line = " ".join(process.cmdline())
            except psutil.Error:
                continue
            if all(word in line for word in words):
                found.append(process)
        if not found:
            raise LookupError(" ".join(words))
        return found[0]

    def kill(self, *words: str) -> None:
        self.find(*words).kill()

    def kill_engine(self) -> None:
        self.find("training.engine.forkserver").children()[0].kill()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)


class Watcher(threading.Thread):
    """A page that is left open: follows a training over the socket, reconnects, and never reloads."""

    def __init__(self, port: int, cookie: str, topic: str) -> None:
        super().__init__(daemon=True)
        self.url, self.cookie, self.topic = f"ws://127.0.0.1:{port}/ws/", cookie, topic
        self.port = port
        self.items: list[dict[str, Any]] = []
        self.connections = 0
        self.finished = False

    def run(self) -> None:
        asyncio.run(self._follow())

    async def _follow(self) -> None:
        import websockets

        headers = {"Cookie": self.cookie, "Origin": f"http://127.0.0.1:{self.port}"}
        while not self.finished:
            try:
                async with websockets.connect(self.url, additional_headers=headers) as page:
                    self.connections += 1
                    after = self.items[-1]["seq"] if self.items else 0
                    await page.send(json.dumps({"subscribe": self.topic, "after": after}))
                    while not self.finished:
                        frame = json.loads(await asyncio.wait_for(page.recv(), 30))
                        self.items += frame.get("items", [])
            except (OSError, TimeoutError, websockets.WebSocketException):
                await asyncio.sleep(0.5)


def until(condition: Callable[[], bool], *, seconds: float = 1800) -> None:
    """Wait for `condition`; the services may be away meanwhile."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except Exception as error:
            from django.db import connection

            connection.close()
            print(f"  (waiting: {type(error).__name__})")
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.2)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--keep", action="store_true", help="leave the folder for a look at it")
    options = parser.parse_args()
    var = Path(tempfile.mkdtemp(prefix="lora-foundry-chaos-"))
    platform = Platform(var)
    try:
        return run(platform, options.steps)
    finally:
        platform.stop()
        if options.keep:
            print(f"left in {var}")
        else:
            shutil.rmtree(var, ignore_errors=True)


def run(platform: Platform, steps: int) -> int:
    until(lambda: (Path(os.environ["LF_VAR_DIR"]) / "run" / "services.json").exists(), seconds=120)
    import django

    django.setup()
    from django.core.management import call_command
    from django.db import connection

    until(lambda: "training_worker" in connection.introspection.table_names(), seconds=120)
    from training.models import Worker

    until(lambda: Worker.objects.exists(), seconds=300)
    call_command("seed_demo", no_training=True)
    quiet, hit = make_job(steps), None
    until(lambda: state(quiet) == "succeeded")
    print(f"undisturbed: {steps} steps in {seconds(quiet):.0f} s")
    hit = make_job(steps)
    watcher = Watcher(platform.port, login_cookie(), f"training:{hit.uid}")
    watcher.start()
    kills: list[tuple[str, Callable[[], None]]] = [
        ("engine", platform.kill_engine),
        ("worker", lambda: platform.kill("manage.py", "gpu_worker")),
        ("web server", lambda: platform.kill("uvicorn")),
        ("Valkey", lambda: platform.kill("valkey-server")),
    ]
    for number, (name, kill) in enumerate(kills, start=1):
        wanted = steps * number // (len(kills) + 1)
        until(lambda wanted=wanted: progress(hit) >= wanted and state(hit) == "running")  # type: ignore[misc]
        print(f"kill -9 {name} at step {progress(hit)}")
        kill()
        time.sleep(1)
    until(lambda: state(hit) in ("succeeded", "failed"))
    until(lambda: bool(watcher.items) and watcher.items[-1]["data"].get("state") == "succeeded", seconds=60)
    watcher.finished = True
    return report(quiet, hit, steps, watcher)


def make_job(steps: int) -> Any:
    """Queue the demo's first style, on one thread and with a checkpoint every few steps."""
    from accounts.access import actor_for
    from accounts.models import User
    from projects.models import DatasetVersion
    from training.management.commands.seed_demo import EMAIL, TEAM
    from training.models import FoundationModel, TrainingJob
    from training.services.jobs import create_job

    actor = actor_for(User.objects.get(email=EMAIL), TEAM)
    version = DatasetVersion.objects.for_team(actor.team).filter(dataset__name="Ink").first()
    job = create_job(
        actor=actor,
        dataset_version=version,
        foundation_model=FoundationModel.objects.get(key="demo"),
        template="style",
        name="Chaos",
        trigger="ink style",
        settings={
            "training.steps": steps,
            "checkpoint.every_steps": max(1, steps // 12),
            "sampling.every_steps": max(1, steps // 3),
        },
        prompts=["a cat, ink style"],
    )
    rows = TrainingJob.objects.for_team(actor.team).filter(pk=job.pk)
    rows.update(spec={**job.spec, "threads": 1})
    return job


def login_cookie() -> str:
    """Return the cookie of a browser in which the demo person is logged in."""
    from django.conf import settings
    from django.test import Client

    from accounts.models import User
    from training.management.commands.seed_demo import EMAIL

    client = Client()
    client.force_login(User.objects.get(email=EMAIL))
    return f"{settings.SESSION_COOKIE_NAME}={client.cookies[settings.SESSION_COOKIE_NAME].value}"


def row(job: Any) -> Any:
    from training.models import TrainingJob

    return TrainingJob.objects.for_team(job.team).get(pk=job.pk)


def state(job: Any) -> str:
    return str(row(job).state)


def progress(job: Any) -> int:
    found = row(job)
    assert found.state not in ("failed", "succeeded"), (found.state, found.error_message)
    return int(found.step)


def seconds(job: Any) -> float:
    found = row(job)
    return float((found.finished_at - found.started_at).total_seconds())


def report(quiet: Any, hit: Any, steps: int, watcher: Watcher) -> int:
    """Print what was compared; return 0 if all of it holds."""
    from billing.models import UsageEntry
    from training.models import Attempt, JobEvent, MetricChunk

    team = hit.team
    attempts = list(Attempt.objects.for_team(team).filter(job=hit).order_by("fence"))
    stored = list(
        JobEvent.objects.for_team(team).filter(job=hit).order_by("seq").values_list("seq", flat=True)
    )
    points = [
        step
        for chunk in MetricChunk.objects.for_team(team).filter(job=hit, metric="loss").order_by("chunk")
        for step in chunk.steps
    ]
    redone = sum(a.last_step - b.first_step for a, b in pairwise(attempts))
    billed = {
        entry.attempt: entry.seconds for entry in UsageEntry.objects.for_team(team).filter(job_uid=hit.uid)
    }
    spent = {a.fence: (a.ended_at - a.started_at).total_seconds() for a in attempts if a.ended_at}
    checks = {
        "ended succeeded": state(hit) == "succeeded",
        "weights are bit-equal to the undisturbed run": weights(hit) == weights(quiet),
        "every step is there once": points == list(range(1, steps + 1)),
        "events are numbered without a gap": stored == list(range(1, len(stored) + 1)),
        "the open page got every event once": [item["seq"] for item in watcher.items] == stored,
        "billed seconds are those of the attempts": {k: round(v, 2) for k, v in billed.items()}
        == {k: round(v, 2) for k, v in spent.items()},
    }
    print(
        f"attempts: {[(a.outcome, a.first_step, a.last_step) for a in attempts]}; steps made again: {redone}"
    )
    print(
        f"events: {len(stored)}; the page connected {watcher.connections} times; {seconds(hit):.0f} s in all"
    )
    for name, holds in checks.items():
        print(f"{'ok  ' if holds else 'FAIL'} {name}")
    return 0 if all(checks.values()) else 1


def weights(job: Any) -> dict[str, bytes]:
    """Return every tensor of the finished file as bytes."""
    from safetensors.numpy import load

    from core import storage
    from projects.models import LoraFile

    files = LoraFile.objects.for_team(job.team).select_related("blob")
    blob = files.get(version__training_uid=job.uid, is_final=True).blob
    content = storage.read_bytes(storage.blob_key(job.team.uid, blob.sha256))
    return {name: tensor.tobytes() for name, tensor in load(content).items()}


if __name__ == "__main__":
    sys.exit(main())
