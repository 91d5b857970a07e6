"""Kill everything in the middle of a training and show that nothing is lost: `python -m bench.chaos --once`.

Starts the whole platform in a folder of its own and trains the demo model while it kills (-9) the engine before its
first checkpoint, the worker, the web server, Valkey and PostgreSQL; then once more undisturbed, on as many threads as
the first run measured. The training's page stays open in a real browser throughout. Compared at the end: the weights
bit for bit, every step, every event, what the page showed, every billed second. Needs what `make test` installs, and a
Chromium.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import psutil
from playwright.sync_api import sync_playwright

from tests.browser import launch
from tests.installation import Installation


class Platform(Installation):
    """The platform under test, with leases so short that a training outlives several."""

    options = ("--no-demo",)
    settings = {"LF_LEASE_SECONDS": "15", "LF_LEASE_RENEW_SECONDS": "3", "LF_ENGINE_LEASE_SECONDS": "10"}

    def kill_engine(self) -> None:
        for process in psutil.Process(self.child("gpu_worker").pid).children():
            if "training.engine.forkserver" in process.cmdline():
                process.children()[0].kill()
                return
        raise LookupError("no engine")


class OpenPage(threading.Thread):
    """The page of a training in a real browser, opened once: follows to the end, and is never touched.

    Playwright's loop must not run in the thread that asks the database.
    """

    WATCH = """
        document.addEventListener('training:event', (event) => window.noted('applied', event.detail))
        document.addEventListener('DOMContentLoaded', () => {
          const log = document.querySelector('[data-log-lines]')
          if (log) new MutationObserver((records) => {
            for (const record of records) for (const line of record.addedNodes)
              window.noted('shown', { seq: Number(line.dataset.seq) })
          }).observe(log, { childList: true })
        })
    """

    def __init__(self, address: str, cookie: dict[str, str]) -> None:
        super().__init__(daemon=True)
        self.address, self.cookie = address, cookie
        self.after = 0  # the events up to here were there when the page was opened
        self.events: list[dict[str, Any]] = []
        self.log_lines: list[int] = []
        self.curve: list[int] = []
        self.sockets = 0
        self.health = ""
        self.opened = threading.Event()
        self.ended = threading.Event()

    def run(self) -> None:
        with sync_playwright() as playwright:
            context = launch(playwright).new_context()
            context.add_cookies([self.cookie])  # type: ignore[list-item]
            context.expose_binding("noted", self._note)
            context.add_init_script(self.WATCH)
            page = context.new_page()
            page.on("websocket", self._count)
            page.goto(self.address)
            live = page.locator("[data-module=training-page]")
            self.after = int(live.get_attribute("data-after") or 0)
            self.opened.set()
            while not self._saw("phase", "phase", "evaluate"):
                page.wait_for_timeout(200)
                self.health = live.get_attribute("data-live") or ""
            page.get_by_text("Numbers as a table").click()
            steps = page.locator("[data-table] tr td:first-child")
            self.curve = [int(step) for step in steps.all_inner_texts()]
            page.locator("a[href*='/lora-files/']").first.wait_for(timeout=600_000)
            self.ended.set()

    def _count(self, _socket: object) -> None:
        self.sockets += 1

    def _note(self, _source: object, kind: str, event: dict[str, Any]) -> None:
        if kind == "applied":
            self.events.append(event)
        else:
            self.log_lines.append(event["seq"])

    def _saw(self, kind: str, name: str, value: str) -> bool:
        return any(each["type"] == kind and each["data"].get(name) == value for each in self.events)


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


def main(steps: int) -> int:
    """Run it and return the exit status."""
    platform = Platform()
    os.environ.update(LF_VAR_DIR=str(platform.var), DJANGO_SETTINGS_MODULE="config.settings")
    try:
        platform.wait_until_ready()
        return run(platform, steps)
    finally:
        platform.stop()


def run(platform: Platform, steps: int) -> int:
    import django

    django.setup()
    from django.core.management import call_command

    from training.models import Worker

    until(lambda: Worker.objects.exists(), seconds=300)
    from training.management.commands.seed_demo import TEAM

    call_command("seed_demo", no_training=True)
    hit = make_job(steps)
    page = OpenPage(f"http://127.0.0.1:{platform.port}/t/{TEAM}/trainings/{hit.uid}/", login_cookie(platform))
    page.start()
    assert page.opened.wait(60), "the page does not open"
    kills: list[tuple[str, Callable[[], None]]] = [
        ("engine", platform.kill_engine),
        ("worker", lambda: platform.child("gpu_worker").kill()),
        ("web server", platform.kill_web),
        ("Valkey", lambda: platform.child("valkey").kill()),
        ("PostgreSQL", lambda: platform.child("postgres", "-D").kill()),
    ]
    for number, (name, kill) in enumerate(kills, start=1):
        wanted = 1 if name == "engine" else steps * number // (len(kills) + 1)
        until(lambda wanted=wanted: progress(hit) >= wanted and state(hit) == "running")  # type: ignore[misc]
        print(f"kill -9 {name} at step {progress(hit)}")
        kill()
        time.sleep(1)
    until(lambda: state(hit) in ("succeeded", "failed"))
    if not page.ended.wait(60):
        print(f"the page does not show the file; it is {page.health!r} and saw last {page.events[-3:]}")
    quiet = make_job(steps, threads=row(hit).threads)
    until(lambda: state(quiet) == "succeeded")
    print(f"undisturbed, on {row(hit).threads} threads: {steps} steps in {seconds(quiet):.0f} s")
    return report(quiet, hit, steps, page)


def make_job(steps: int, *, threads: int = 0) -> Any:
    """Queue a style of the demo with four checkpoints; 0 threads: it measures which number is fastest."""
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
            "checkpoint.every_steps": max(1, steps // 4),
            "sampling.every_steps": max(1, steps // 3),
        },
        prompts=["a cat, ink style"],
    )
    if threads:
        TrainingJob.objects.for_team(actor.team).filter(pk=job.pk).update(threads=threads)
    return job


def login_cookie(platform: Platform) -> dict[str, str]:
    """Return the cookie of a browser in which the demo person is logged in."""
    from django.conf import settings
    from django.test import Client

    from accounts.models import User
    from training.management.commands.seed_demo import EMAIL

    client = Client()
    client.force_login(User.objects.get(email=EMAIL))
    name = settings.SESSION_COOKIE_NAME
    return {"name": name, "value": client.cookies[name].value, "url": f"http://127.0.0.1:{platform.port}"}


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


def report(quiet: Any, hit: Any, steps: int, page: OpenPage) -> int:
    """Print what was compared; return 0 if all of it holds."""
    from billing.models import UsageEntry
    from training.models import Attempt, JobEvent, MetricChunk
    from training.selectors import LOG_TYPES

    team = hit.team
    attempts = list(Attempt.objects.for_team(team).filter(job=hit).order_by("fence"))
    stored = list(JobEvent.objects.for_team(team).filter(job=hit).order_by("seq").values_list("seq", "type"))
    sent = [(seq, kind) for seq, kind in stored if seq > page.after]
    points = [
        step
        for chunk in MetricChunk.objects.for_team(team).filter(job=hit, metric="loss").order_by("chunk")
        for step in chunk.steps
    ]
    redone = sum(a.last_step - b.first_step for a, b in pairwise(attempts))
    billed = {
        entry.attempt: entry.seconds + entry.seconds_lost
        for entry in UsageEntry.objects.for_team(team).filter(job_uid=hit.uid)
    }
    spent = {a.fence: (a.ended_at - a.started_at).total_seconds() for a in attempts if a.ended_at}
    checks = {
        "ended succeeded": state(hit) == "succeeded",
        "weights are bit-equal to the undisturbed run": weights(hit) == weights(quiet),
        "every step is there once": points == list(range(1, steps + 1)),
        "events are numbered without a gap": [seq for seq, _kind in stored]
        == list(range(1, len(stored) + 1)),
        "the open page got every event once": [(each["seq"], each["type"]) for each in page.events] == sent,
        "its log shows each line once": page.log_lines == [seq for seq, kind in sent if kind in LOG_TYPES],
        "its curve shows each step once": page.curve == points,
        "billed seconds are those of the attempts": {k: round(v, 2) for k, v in billed.items()}
        == {k: round(v, 2) for k, v in spent.items()},
    }
    print(
        f"attempts: {[(a.outcome, a.first_step, a.last_step) for a in attempts]}; steps made again: {redone}"
    )
    print(f"events: {len(stored)}; the page connected {page.sockets} times; {seconds(hit):.0f} s in all")
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
