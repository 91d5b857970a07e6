"""Follow one training with 1 000 browsers at once on one web process: `python -m bench.sockets [--clients 1000]`.

A job writes 20 events a second for half a minute. Every client must get every event once and in order; printed are the
milliseconds from the event to its arrival, and the memory of a client on the server. Then 100 clients go and come back
at random for a minute, as phones in trains do: nothing may be missed, doubled or out of order.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "platform")]

from tests.installation import Installation  # noqa: E402

EVENTS_A_SECOND = 20
SECONDS = 30
AWAY = 60
TRAVELLERS = 100


class OneProcess(Installation):
    """The platform with a single web process."""

    settings = {"LF_WEB_PROCESSES": "1"}


class Client:
    """Follow the training from its first event and note what comes."""

    def __init__(self, address: str, cookie: str, topic: str) -> None:
        self.address, self.cookie, self.topic = address, cookie, topic
        self.seqs: list[int] = []
        self.delays: list[float] = []

    @property
    def last(self) -> int:
        return self.seqs[-1] if self.seqs else 0

    async def follow(self, until: asyncio.Event, ready: asyncio.Semaphore | None = None) -> None:
        """Read frames until `until` is set or the connection ends."""
        import websockets

        origin = self.address.replace("ws://", "http://").removesuffix("/ws/")
        headers = {"Cookie": self.cookie}
        async with websockets.connect(
            self.address,
            additional_headers=headers,
            origin=origin,
            open_timeout=60,
            max_queue=64,  # type: ignore[arg-type]
        ) as socket:
            await socket.send(json.dumps({"subscribe": self.topic, "after": self.last}))
            if ready is not None:
                ready.release()
            while not until.is_set():
                try:
                    async with asyncio.timeout(1.0):
                        frame = json.loads(await socket.recv())
                except TimeoutError:
                    continue
                now = datetime.now(UTC).timestamp()
                for item in frame.get("items", []):
                    self.seqs.append(item["seq"])
                    self.delays.append(now - datetime.fromisoformat(item["at"]).timestamp())


async def crowd(address: str, cookie: str, topic: str, count: int, seconds: float) -> dict[str, Any]:
    """Connect `count` clients, say so on standard output, and follow for so long."""
    clients = [Client(address, cookie, topic) for _client in range(count)]
    ended, ready = asyncio.Event(), asyncio.Semaphore(0)
    tasks = []
    for number, client in enumerate(clients):
        tasks.append(asyncio.create_task(client.follow(ended, ready)))
        if number % 20 == 19:
            await asyncio.sleep(0.1)
    for _client in clients:
        await ready.acquire()
    print("ready", flush=True)
    await asyncio.sleep(seconds)
    ended.set()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    return _report(clients, [each for each in done if isinstance(each, Exception)])


async def travel(address: str, cookie: str, topic: str, count: int, seconds: float) -> dict[str, Any]:
    """Let `count` clients go and come back at random, each asking for what comes after its last event."""
    clients = [Client(address, cookie, topic) for _client in range(count)]
    deadline = time.monotonic() + seconds
    print("ready", flush=True)

    async def one(client: Client) -> None:
        dice = random.Random(id(client))
        while time.monotonic() < deadline:
            gone = asyncio.Event()
            task = asyncio.create_task(client.follow(gone))
            await asyncio.sleep(dice.uniform(0.5, 5.0))
            if dice.random() < 0.5:
                gone.set()
                task.cancel()  # the network is lost in the middle of whatever
                await asyncio.gather(task, return_exceptions=True)
            else:
                gone.set()
                await task
            await asyncio.sleep(dice.uniform(0.0, 2.0))
        gone = asyncio.Event()
        task = asyncio.create_task(client.follow(gone))
        await asyncio.sleep(8.0)  # what was written meanwhile arrives
        gone.set()
        await task

    done = await asyncio.gather(*(one(client) for client in clients), return_exceptions=True)
    return _report(clients, [each for each in done if isinstance(each, Exception)])


def _report(clients: list[Client], failed: list[Exception]) -> dict[str, Any]:
    delays = sorted(each for client in clients for each in client.delays)
    return {
        "lasts": [client.last for client in clients],
        "firsts": [client.seqs[0] if client.seqs else 0 for client in clients],
        "out_of_order": sum(client.seqs != sorted(client.seqs) for client in clients),
        "doubled": sum(len(client.seqs) - len(set(client.seqs)) for client in clients),
        "missed": sum(
            client.last - client.seqs[0] + 1 - len(set(client.seqs)) for client in clients if client.seqs
        ),
        "delays": delays[:: max(1, len(delays) // 20_000)],
        "failed": [f"{type(each).__name__}: {each}" for each in failed][:3],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--child", nargs=6, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        kind, address, cookie, topic, count, seconds = options.child
        play = {"crowd": crowd, "travel": travel}[kind]
        print(json.dumps(asyncio.run(play(address, cookie, topic, int(count), float(seconds)))))
        return 0
    platform = OneProcess()
    os.environ.update(LF_VAR_DIR=str(platform.var), DJANGO_SETTINGS_MODULE="config.settings")
    try:
        platform.wait_until_ready()
        return run(platform, options.clients)
    finally:
        platform.stop()


def run(platform: Installation, clients: int) -> int:
    import django

    django.setup()
    from django.conf import settings
    from django.test import Client as Browser

    from tests.scenario import make_scenario
    from tests.training.queueing import Bench

    scenario = make_scenario()
    job = Bench(scenario.alice).job()
    browser = Browser()
    browser.force_login(scenario.alice.user)
    cookie = f"{settings.SESSION_COOKIE_NAME}={browser.cookies[settings.SESSION_COOKIE_NAME].value}"
    address, topic = f"ws://127.0.0.1:{platform.port}/ws/", f"training:{job.uid}"
    web = platform.all_with("config.web")[0]
    before = web.memory_info().rss
    faults = 0

    child = _child("crowd", address, cookie, topic, clients, SECONDS + 6)
    assert child.stdout is not None
    assert child.stdout.readline().strip() == "ready", "the clients could not connect"
    began = web.cpu_times().user
    last = write(job, SECONDS)
    per_client = (web.memory_info().rss - before) / clients
    found = json.loads(child.communicate()[0].splitlines()[-1])
    used = web.cpu_times().user - began
    faults += tell(f"{clients} clients, {EVENTS_A_SECOND} events a second for {SECONDS} s", found, last)
    print(f"  {per_client / 1024:.0f} KiB a client, the web process used {used:.0f} s of CPU")

    child = _child("travel", address, cookie, topic, TRAVELLERS, AWAY)
    assert child.stdout is not None
    child.stdout.readline()
    last = write(job, AWAY + 2)
    found = json.loads(child.communicate()[0].splitlines()[-1])
    faults += tell(f"{TRAVELLERS} clients that go and come back for {AWAY} s", found, last)
    return int(faults > 0)


def write(job: Any, seconds: float) -> int:
    """Write events as a worker does, and return the last number."""
    from django.db import transaction
    from django.utils import timezone

    from training.models import TrainingJob
    from training.services.lifecycle import append_events

    deadline = time.monotonic() + seconds
    number = 0
    while (now := time.monotonic()) < deadline:
        with transaction.atomic():
            row = TrainingJob.objects.for_team(job.team).select_for_update().get(pk=job.pk)
            row.team = job.team
            data = {"step": number, "series": {"loss": [[number, 0.1]]}}
            append_events(row, [("metrics", timezone.now(), data)])
            row.save(update_fields=["last_seq"])
        number += 1
        time.sleep(max(0.0, 1 / EVENTS_A_SECOND - (time.monotonic() - now)))
    return int(row.last_seq)


def _child(*values: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "bench.sockets", "--child", *map(str, values)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def tell(name: str, found: dict[str, Any], last: int) -> int:
    """Print what the clients saw and return the number of faults."""
    short = sum(each < last for each in found["lasts"])
    delays = found["delays"]
    middle, ninety_nine = (1000 * delays[int(len(delays) * share)] for share in (0.5, 0.99))
    # Who was away gets old events, of course.
    print(
        f"{name}: {found['missed']} missed, {found['doubled']} doubled, {found['out_of_order']} clients out of order, "
        f"{short} clients short of event {last}, {len(found['failed'])} failed {found['failed']}; "
        f"an event arrives after {middle:.0f} ms, 99 of 100 within {ninety_nine:.0f} ms"
    )
    return int(found["missed"] + found["doubled"] + found["out_of_order"] + short + len(found["failed"]))


if __name__ == "__main__":
    sys.exit(main())
