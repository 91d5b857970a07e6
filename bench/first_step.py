"""From Start to the first training step: `python -m bench.first_step`.

Starts the whole platform in a folder of its own, as `make up` does, and queues trainings of the demo model on a demo
picture set through the service that the page and the API call. Each is cancelled after its first step. Four cases take
turns: the base model held by the ready engine or not, and the caches of pictures, latents and texts filled or empty.
Read from the database: seconds from the job's row to the event that tells of step 1, and where they went. Needs what
`make test` installs.
"""

from __future__ import annotations

import argparse
import os
import platform as machine
import shutil
import statistics
import sys
import time
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "platform")]

from tests.installation import Installation  # noqa: E402

# Seconds that a base model has to be loaded in, after the training that used it has ended.
IDLE = 2.0


class Platform(Installation):
    """The platform as it is, without the demo's own training."""

    options = ("--no-demo",)

    def holders(self) -> list[psutil.Process]:
        """Return what the ready engine has forked: while no training runs, the holder of a base model at most."""
        for process in psutil.Process(self.child("gpu_worker").pid).children():
            if "training.engine.forkserver" in process.cmdline():
                return [child for child in process.children() if child.status() != psutil.STATUS_ZOMBIE]
        return []


def main() -> int:
    """Run the cases in turns and print medians and quartiles."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=8)
    options = parser.parse_args()
    platform = Platform()
    os.environ.update(LF_VAR_DIR=str(platform.var), DJANGO_SETTINGS_MODULE="config.settings")
    try:
        platform.wait_until_ready()
        run(platform, options.rounds)
    finally:
        platform.stop()
    return 0


def run(platform: Platform, rounds: int) -> None:
    import django

    django.setup()
    from django.core.management import call_command

    from training.models import Worker

    until(lambda: Worker.objects.exists())
    call_command("seed_demo", no_training=True)
    first_step(platform)  # the machine's own caches
    took: dict[tuple[bool, bool], list[dict[str, float]]] = defaultdict(list)
    for number in range(rounds):
        cases = [(held, warm) for held in (False, True) for warm in (False, True)]
        for held, warm in cases if number % 2 == 0 else reversed(cases):
            time.sleep(IDLE)
            holders = platform.holders()
            if held and not holders:
                continue
            if not held:
                for holder in holders:
                    holder.kill()
            if not warm:
                shutil.rmtree(platform.var / "cache", ignore_errors=True)
            took[held, warm].append(first_step(platform))
    load = os.getloadavg()[0]
    print(f"{machine.machine()}, {os.cpu_count()} CPUs, load {load:.1f} at the end; {rounds} rounds in turns")
    for held, warm in sorted(took):
        name = f"base {'held' if held else 'loaded'}, caches {'filled' if warm else 'empty'}"
        report(name, took[held, warm])


def first_step(platform: Platform) -> dict[str, float]:
    """Train to the first step and return the seconds of each part of the way, and "all"."""
    from accounts.access import actor_for
    from accounts.models import User
    from projects.models import DatasetVersion
    from training.management.commands.seed_demo import EMAIL, TEAM
    from training.models import FoundationModel, JobEvent, TrainingJob
    from training.services.control import cancel_job
    from training.services.jobs import create_job

    actor = actor_for(User.objects.get(email=EMAIL), TEAM)
    job = create_job(
        actor=actor,
        dataset_version=DatasetVersion.objects.for_team(actor.team).filter(dataset__name="Ink").first(),
        foundation_model=FoundationModel.objects.get(key="demo"),
        template="style",
        name="First step",
        trigger="ink style",
        prompts=["a cat, ink style"],
    )
    events = JobEvent.objects.for_team(actor.team).filter(job=job).order_by("seq")
    until(lambda: events.filter(type__in=("metrics", "error")).exists())
    way = marks(list(events))
    cancel_job(actor=actor, job=job)
    until(
        lambda: TrainingJob.objects.for_team(actor.team).filter(pk=job.pk, finished_at__isnull=False).exists()
    )
    return way


def marks(events: list[Any]) -> dict[str, float]:
    """Return the seconds from each mark of the way to the next, by the name of what ended there."""
    times = {"queued": events[0].at}
    for event in events:
        name = event.type
        if name == "status":
            name = {"starting": "claimed"}.get(event.data["state"], "")
        elif name == "phase":
            done = event.data["total"] and event.data["done"] == event.data["total"]
            name = f"{event.data['phase']}{' done' if done else ''}"
            if name == "fetch_data":  # the worker's own, then the engine's
                name = "engine says the first thing" if "fetch_data done" in times else ""
        if name:
            times.setdefault(name, event.at)
        if name == "metrics":
            break
    else:
        raise RuntimeError(f"no first step: {[(event.type, event.data) for event in events]}")
    way = {later: (times[later] - times[before]).total_seconds() for before, later in pairwise(times)}
    return {"all": (times["metrics"] - times["queued"]).total_seconds(), **way}


def report(name: str, ways: list[dict[str, float]]) -> None:
    """Print median and quartiles of the whole way, and the medians of its parts."""
    whole = [way["all"] for way in ways]
    low, middle, high = statistics.quantiles(whole, n=4) if len(whole) > 1 else whole * 3
    print(
        f"{name}: {middle:.2f} s ({low:.2f} to {high:.2f}; {min(whole):.2f} to {max(whole):.2f} of {len(whole)})"
    )
    for part in ways[0]:
        if part != "all":
            print(f"    {part:<28} {statistics.median(way.get(part, 0.0) for way in ways):6.3f}")


def until(condition: Any, *, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())
