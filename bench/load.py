"""Let many people browse and many programs call for a while: `python -m bench.load [--users 200] [--seconds 120]`.

Starts the whole platform in a folder of its own, fills a team with a picture set and a training, and lets half of the
users browse pages and half call the API, each with a pause of two to four seconds between requests, as people do.
Printed: requests a second, times (milliseconds) by address, answers that were errors. Needs what `make test` installs.
"""

from __future__ import annotations

import argparse
import http.client
import os
import random
import statistics
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "platform")]

from bench.pages import addresses, fill  # noqa: E402
from tests.installation import Installation  # noqa: E402

PAUSE = (2.0, 4.0)  # seconds


class Quiet(Installation):
    """The platform without demo and training worker, its limits out of the way: one credential stands for many."""

    settings = {"LF_RATE_API": "0/60", "LF_RATE_ANONYMOUS": "0/60"}


class Visitor(threading.Thread):
    """One person at a browser, or one program, over one connection that is kept."""

    def __init__(
        self, port: int, paths: list[tuple[str, str]], headers: dict[str, str], until: float
    ) -> None:
        super().__init__(daemon=True)
        self.port, self.paths, self.headers, self.until = port, paths, headers, until
        self.times: dict[str, list[float]] = defaultdict(list)
        self.errors: list[str] = []

    def run(self) -> None:
        time.sleep(random.uniform(0, PAUSE[1]))
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        while time.monotonic() < self.until:
            name, path = random.choice(self.paths)
            began = time.perf_counter()
            try:
                connection.request("GET", path, headers=self.headers)
                answer = connection.getresponse()
                answer.read()
                if answer.status != 200:
                    self.errors.append(f"{name}: {answer.status}")
            except (OSError, http.client.HTTPException) as error:
                self.errors.append(f"{name}: {type(error).__name__}")
                connection.close()
            self.times[name].append((time.perf_counter() - began) * 1000)
            time.sleep(random.uniform(*PAUSE))


def prepare(pictures: int) -> tuple[list[tuple[str, str]], list[tuple[str, str]], str, str]:
    """Fill a team; return (pages, API addresses, cookie, key)."""
    import django

    django.setup()
    from django.conf import settings
    from django.test import Client

    from tests.scenario import make_scenario
    from tests.world import make_world

    world: Any = make_world(make_scenario().alice, "load")
    fill(world, pictures)
    client = Client()
    client.force_login(world.actor.user)
    name = settings.SESSION_COOKIE_NAME
    pages, api = [], []
    for label, (path, is_api) in addresses(world).items():
        (api if is_api else pages).append((label, path))
    pages.append(("thumbnail", f"/t/{world.actor.team.slug}/thumbnails/{world.blob.uid}/"))
    return pages, api, f"{name}={client.cookies[name].value}", world.key_text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--pictures", type=int, default=1000)
    options = parser.parse_args()
    platform = Quiet()
    os.environ.update(LF_VAR_DIR=str(platform.var), DJANGO_SETTINGS_MODULE="config.settings")
    try:
        platform.wait_until_ready()
        pages, api, cookie, key = prepare(options.pictures)
        web = platform.all_with("config.web")
        return run(platform, web, pages, api, cookie, key, options.users, options.seconds)
    finally:
        platform.stop()


def run(
    platform: Installation,
    web: list[psutil.Process],
    pages: list[tuple[str, str]],
    api: list[tuple[str, str]],
    cookie: str,
    key: str,
    users: int,
    seconds: int,
) -> int:
    until = time.monotonic() + seconds
    people = [Visitor(platform.port, pages, {"Cookie": cookie}, until) for _n in range(users // 2)]
    programs = [
        Visitor(platform.port, api, {"Authorization": f"Bearer {key}"}, until)
        for _n in range(users - len(people))
    ]
    visitors = [*people, *programs]
    memory = resident(web)
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join()
    times: dict[str, list[float]] = defaultdict(list)
    for visitor in visitors:
        for name, found in visitor.times.items():
            times[name] += found
    every = [each for found in times.values() for each in found]
    errors = [error for visitor in visitors for error in visitor.errors]
    print(f"{'':<16}{'requests':>9}{'p50':>8}{'p95':>8}{'p99':>8}  ms")
    for name, found in sorted(times.items()):
        print(f"{name:<16}{len(found):>9}" + "".join(f"{each:>8.0f}" for each in quantiles(found)))
    print(f"{'all':<16}{len(every):>9}" + "".join(f"{each:>8.0f}" for each in quantiles(every)))
    grown = (resident(web) - memory) / 1024**2
    print(
        f"{users} users, {len(every) / seconds:.1f} requests/s, {len(errors)} errors, "
        f"{len(web)} web processes {grown:+.0f} MB"
    )
    for error in sorted(set(errors)):
        print(f"  {errors.count(error)} x {error}")
    return 1 if errors else 0


def resident(processes: list[psutil.Process]) -> int:
    """Return the memory of the processes in bytes."""
    return sum(process.memory_info().rss for process in processes)


def quantiles(values: list[float]) -> tuple[float, float, float]:
    """Return the median and the times that 95 and 99 of a hundred do not exceed."""
    if len(values) < 2:
        return (values[0],) * 3 if values else (0.0,) * 3
    cut = statistics.quantiles(values, n=100, method="inclusive")
    return cut[49], cut[94], cut[98]


if __name__ == "__main__":
    sys.exit(main())
