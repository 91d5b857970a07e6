"""Upload a large file with two public clients of tus while everything goes wrong: `python -m bench.tus`.

Starts the whole platform in a folder of its own. tuspy speaks to the API with a key, tus-js-client to the page of a
picture set in Chromium, each through a relay that cuts the network after 30 % of the bytes and kills the web server
(-9) after 60 %. Compared: the sha256 of what the server stored, and the memory of the web process. Then once
undisturbed, for the speed, beside writing the same file straight to disk. Needs what `make test` installs, and a
Chromium.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "platform")]

from tests.browser import launch  # noqa: E402
from tests.installation import Installation  # noqa: E402

MB = 1024 * 1024
PIECE = 8 * MB
CUT_SECONDS = 2.0


class Relay:
    """A network between client and server: counts the bytes sent up, and does something at some of them."""

    def __init__(self, port: int, troubles: list[tuple[int, Callable[[], None]]]) -> None:
        self.target, self.troubles = port, troubles
        self.sent = 0
        self.away_until = 0.0
        self.sockets: set[socket.socket] = set()
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Break every connection off and let none through for a while."""
        self.away_until = time.monotonic() + CUT_SECONDS
        with self.lock:
            for each in self.sockets:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            client, _address = self.listener.accept()
            try:
                if time.monotonic() < self.away_until:
                    raise ConnectionRefusedError
                server = socket.create_connection(("127.0.0.1", self.target), timeout=600)
            except OSError:
                client.close()
                continue
            with self.lock:
                self.sockets |= {client, server}
            for source, goal, up in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._pump, args=(source, goal, up), daemon=True).start()

    def _pump(self, source: socket.socket, goal: socket.socket, up: bool) -> None:
        with suppress(OSError):
            while data := source.recv(256 * 1024):
                goal.sendall(data)
                if up:
                    self._count(len(data))
        for each in (source, goal):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        with self.lock:
            self.sockets -= {source}
        source.close()

    def _count(self, size: int) -> None:
        with self.lock:
            self.sent += size
            due = self.troubles.pop(0)[1] if self.troubles and self.sent >= self.troubles[0][0] else None
        if due is not None:
            due()


class Memory(threading.Thread):
    """Watch the resident memory of each web process (MB), whichever there are at the moment."""

    def __init__(self, platform: Installation) -> None:
        super().__init__(daemon=True)
        self.platform = platform
        self.seen: dict[int, list[float]] = {}
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.1):
            with suppress(psutil.Error):
                for web in self.platform.all_with("config.web"):
                    self.seen.setdefault(web.pid, []).append(web.memory_info().rss / MB)

    @property
    def first(self) -> float:
        return next((sizes[0] for sizes in self.seen.values()), 0.0)

    @property
    def most(self) -> float:
        return max((max(sizes) for sizes in self.seen.values()), default=0.0)


@dataclass
class Stage:
    """Hold what every upload of the run needs."""

    platform: Installation
    actor: Any
    dataset: Any
    key: str
    file: Path
    sha256: str
    failures: list[str] = field(default_factory=list)

    @property
    def size(self) -> int:
        return self.file.stat().st_size

    def upload(self) -> Any:
        from projects.models import Upload

        return Upload.objects.for_team(self.actor.team).select_related("team").order_by("-id").first()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=300)
    options = parser.parse_args()
    platform = Installation()
    os.environ.update(LF_VAR_DIR=str(platform.var), DJANGO_SETTINGS_MODULE="config.settings")
    workers: list[psutil.Process] = []
    try:
        platform.wait_until_ready()
        # Nobody may look at the files and delete their parts before they were compared.
        workers = [each for each in platform.children().values() if "dramatiq" in " ".join(each.cmdline())]
        for each in workers:
            each.suspend()
        return run(platform, options.megabytes)
    finally:
        for each in workers:
            with suppress(psutil.Error):
                each.resume()
        platform.stop()


def run(platform: Installation, megabytes: int) -> int:
    import django

    django.setup()
    stage = make_stage(platform, megabytes)
    print(f"a file of {megabytes} MB; the network is cut after 30 %, the web server killed after 60 %")
    for name, send in (("tuspy", with_tuspy), ("tus-js-client in Chromium", with_browser)):
        disturbed(stage, name, send)
    memory = Memory(platform)
    memory.start()
    began = time.monotonic()
    with_tuspy(stage, platform.port)
    speed = megabytes / (time.monotonic() - began)
    memory.over.set()
    check(stage, "undisturbed", stage.upload())
    straight = written_straight(stage)
    print(
        f"tuspy undisturbed: {speed:.0f} MB/s; straight to the same disk {straight:.0f} MB/s "
        f"({speed / straight:.0%}); web process from {memory.first:.0f} to at most {memory.most:.0f} MB"
    )
    for failure in stage.failures:
        print(f"FAIL {failure}")
    return 1 if stage.failures else 0


def make_stage(platform: Installation, megabytes: int) -> Stage:
    """Make a person with a key, a dataset, and a file of random bytes in a zip's clothes."""
    from accounts.models import User
    from accounts.services.api_keys import create_api_key
    from accounts.services.teams import create_team
    from projects.services.datasets import create_dataset
    from projects.services.projects import create_project

    person = User.objects.create_user("tus@example.org", "correct horse", name="Tus")
    actor = create_team(owner=person, name="Tus")
    project = create_project(actor=actor, name="Large files")
    dataset = create_dataset(actor=actor, project_uid=project.uid, name="Set")
    file = platform.var / "large.zip"
    digest = hashlib.sha256()
    with file.open("wb") as out:
        for _piece in range(megabytes):
            content = os.urandom(MB)
            digest.update(content)
            out.write(content)
    key = create_api_key(actor=actor, name="tus").text
    return Stage(platform, actor, dataset, key, file, digest.hexdigest())


def disturbed(stage: Stage, name: str, send: Callable[[Stage, int], None]) -> None:
    """Upload the file through a network that is cut and with a server that is killed; say what came of it."""
    told: list[str] = []

    def cut() -> None:
        told.append("cut")
        relay.cut()

    def kill() -> None:
        told.append("killed")
        stage.platform.kill_web()

    relay = Relay(stage.platform.port, [(stage.size * 3 // 10, cut), (stage.size * 6 // 10, kill)])
    memory = Memory(stage.platform)
    memory.start()
    began = time.monotonic()
    send(stage, relay.port)
    seconds = time.monotonic() - began
    memory.over.set()
    check(stage, name, stage.upload())
    if told != ["cut", "killed"]:
        stage.failures.append(f"{name}: of the troubles only {told} happened")
    again = (relay.sent - stage.size) / MB
    print(
        f"{name}: {seconds:.1f} s, {stage.size / MB / seconds:.0f} MB/s with both troubles, {again:.0f} MB sent again; "
        f"web process from {memory.first:.0f} to at most {memory.most:.0f} MB"
    )


def check(stage: Stage, name: str, upload: Any) -> None:
    """Compare what the server has with the file, part by part."""
    from core import storage
    from projects.services.uploads import part_keys

    digest = hashlib.sha256()
    for key in part_keys(upload)[: upload.parts]:
        digest.update(storage.read_bytes(key))
    same = (upload.offset, digest.hexdigest()) == (stage.size, stage.sha256)
    print(
        f"{'ok  ' if same else 'FAIL'} {name}: sha256 {digest.hexdigest()[:16]}... of {upload.offset} bytes"
    )
    if not same:
        stage.failures.append(f"{name}: the server has something else")


def with_tuspy(stage: Stage, port: int) -> None:
    from tusclient.client import TusClient

    client = TusClient(
        f"http://127.0.0.1:{port}/api/v1/uploads", headers={"Authorization": f"Bearer {stage.key}"}
    )
    client.uploader(
        str(stage.file),
        chunk_size=min(PIECE, max(MB, stage.size // 8)),
        metadata={"filename": stage.file.name, "dataset": stage.dataset.uid},
        retries=200,
        retry_delay=0.3,
    ).upload()


def with_browser(stage: Stage, port: int) -> None:
    """Let the page of the picture set send the file; playwright's loop must not run where the database is asked."""
    from django.conf import settings
    from django.test import Client

    client = Client()
    client.force_login(stage.actor.user)
    name = settings.SESSION_COOKIE_NAME
    cookie = {"name": name, "value": client.cookies[name].value, "url": f"http://127.0.0.1:{port}"}
    address = f"http://127.0.0.1:{port}/t/{stage.actor.team.slug}/datasets/{stage.dataset.uid}/"
    before = stage.upload()
    done = threading.Event()

    def browse() -> None:
        with sync_playwright() as playwright:
            context = launch(playwright).new_context()
            context.add_cookies([cookie])  # type: ignore[list-item]
            page = context.new_page()
            page.goto(address)
            page.locator("input[type=file]").first.set_input_files(str(stage.file))
            while not done.is_set():
                page.wait_for_timeout(100)

    browser = threading.Thread(target=browse, daemon=True)
    browser.start()
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline and browser.is_alive():
        upload = stage.upload()
        if upload is not None and (before is None or upload.pk != before.pk) and upload.offset == upload.size:
            break
        time.sleep(0.05)
    done.set()
    browser.join(30)


def written_straight(stage: Stage) -> float:
    """Return how fast the same file is written to the same disk in the same pieces (MB/s)."""
    began = time.monotonic()
    with stage.file.open("rb") as source, (stage.platform.var / "straight").open("wb") as out:
        while piece := source.read(PIECE):
            out.write(piece)
    return stage.size / MB / (time.monotonic() - began)


if __name__ == "__main__":
    sys.exit(main())
