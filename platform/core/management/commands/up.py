"""`manage.py up`: the whole platform on one machine, from one terminal, stopped by one Ctrl-C.

Starts PostgreSQL and Valkey (unless DATABASE_URL and REDIS_URL name others), migrates, seeds the demo, then keeps
the web server, the worker for short jobs, the training worker and the clock running.
"""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import IO, Any

from django.conf import settings
from django.core.management import call_command, get_commands
from django.core.management.base import BaseCommand, CommandError

from core.processes import Launch
from core.service_programs import ServiceError
from core.services_local import (
    LocalService,
    listen,
    local_services,
    write_addresses,
)
from core.supervisor import Program, Supervisor

SERVICE_START = 60.0  # seconds a server may take after a crash, with its log to replay
WEB_START = 120.0
SHORT_QUEUES = ("default", "mail", "media", "webhooks")
STOP_GRACE = 8.0


class Command(BaseCommand):
    help = "Start everything on this machine and keep it running."
    requires_system_checks: list[str] = []  # nothing may ask for the database before it runs

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="address the web server listens on")
        parser.add_argument(
            "--port", type=int, default=8000, help="port of the web server; the next free one if taken"
        )
        parser.add_argument("--no-demo", action="store_true", help="do not make the demo team")
        parser.add_argument("--no-training", action="store_true", help="start no training worker")
        parser.add_argument(
            "--prepare", action="store_true", help="migrate and seed, then exit: no process is started"
        )

    def handle(self, **options: Any) -> None:
        if options["prepare"]:
            prepare(demo=not options["no_demo"])
            return
        # Held until this process ends, in whatever way; the file's text is for people.
        lock = take_lock(settings.VAR_DIR)
        with lock:
            Platform(options, self).run(lock)


class Platform:
    """Everything `up` starts, in order."""

    def __init__(self, options: dict[str, Any], command: BaseCommand) -> None:
        self.options = options
        self.command = command
        self.root: Path = settings.BASE_DIR
        self.var: Path = settings.VAR_DIR
        self.supervisor = Supervisor(self.var / "log")
        self.services: list[LocalService] = []
        self.env: dict[str, str] = {}
        self.port = 0
        self.listener: socket.socket | None = None
        self.began = time.monotonic()

    def run(self, lock: IO[str]) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        try:
            self.start_services()
            if not self.supervisor.stopping.is_set():
                self.prepare_database()
            if not self.supervisor.stopping.is_set():
                self.start_programs(lock)
                self.supervisor.run()
        finally:
            self.stop()

    # -- Steps --------------------------------------------------------------------------------------------------

    def start_services(self) -> None:
        postgres, valkey = local_services(self.var)
        self.env = self._environment()
        if not os.environ.get("DATABASE_URL"):
            self.services.append(postgres)
        if not os.environ.get("REDIS_URL"):
            self.services.append(valkey)
        try:
            for service in self.services:
                service.prepare()
        except ServiceError as error:
            raise CommandError(str(error)) from error
        for service in self.services:
            self.supervisor.start(_service_program(service))
        late = self.supervisor.wait_ready([s.name for s in self.services], timeout=SERVICE_START)
        if late and not self.supervisor.stopping.is_set():
            raise CommandError(f"{', '.join(late)} did not start: see {self.var / 'log'}.")
        addresses = {
            "DATABASE_URL": postgres.url if postgres in self.services else os.environ["DATABASE_URL"],
            "REDIS_URL": valkey.url if valkey in self.services else os.environ["REDIS_URL"],
        }
        self.env |= addresses
        write_addresses(self.var, addresses)
        self._took("services")

    def prepare_database(self) -> None:
        # On our own PostgreSQL an unchanged set of migrations needs no second look: this halves a second start.
        stamp = self.var / "services" / "postgres" / "prepared"
        own = any(service.name == "postgres" for service in self.services)
        current = preparation(self.root, demo=not self.options["no_demo"])
        if own and stamp.exists() and stamp.read_text() == current:
            return
        stamp.unlink(missing_ok=True)
        arguments = ["--prepare", *(["--no-demo"] if self.options["no_demo"] else [])]
        environment = {**os.environ, **self.env}
        child = subprocess.Popen(
            self._manage("up", *arguments), cwd=self.root, env=environment, stdin=subprocess.DEVNULL
        )
        while child.poll() is None:
            self.supervisor.revive()
            self.supervisor.stopping.wait(0.1)
            if self.supervisor.stopping.is_set():
                child.terminate()
                child.wait()
                return
        if child.returncode:
            raise CommandError("The database could not be brought up to date: see the lines above.")
        if own:
            stamp.write_text(current)
        self._took("database")

    def start_programs(self, lock: IO[str]) -> None:
        host = self.options["host"]
        try:
            # Held here and handed down: a web process that dies loses nobody who is still to be let in.
            self.listener = listen(host, self.options["port"])
        except OSError as error:
            raise CommandError(
                f"The web server cannot listen on {host}: {error.strerror or error}"
            ) from error
        self.port = self.listener.getsockname()[1]
        if self.port != self.options["port"]:
            self.supervisor.say(f"Port {self.options['port']} is taken: using {self.port}.")
        address = f"http://{reachable(host)}:{self.port}"
        self.env.setdefault("LF_SITE_URL", os.environ.get("LF_SITE_URL", address))
        if reachable(host) not in settings.ALLOWED_HOSTS:
            self.env["LF_HOSTS"] = ",".join([*settings.ALLOWED_HOSTS, host])
        lock.seek(0)
        lock.truncate()
        lock.write(f"{os.getpid()} {address}\n")
        lock.flush()
        # The page first: the imports of the trainer alone keep two cores busy for ten seconds.
        web, *others = self._programs()
        self.supervisor.start(web)
        late = self.supervisor.wait_ready(["web"], timeout=WEB_START)
        if self.supervisor.stopping.is_set():
            return
        if late:
            raise CommandError(f"The web server did not become ready: see {self.var / 'log' / 'web.log'}.")
        for program in others:
            self.supervisor.start(program)
        self._took("web")
        self._announce(address)

    def stop(self) -> None:
        if self.listener is not None:
            self.listener.close()
        # Programs first, so that none of them sees its database vanish.
        services = [service.name for service in self.services]
        self.supervisor.stop([name for name in self.supervisor.pids() if name not in services])
        self.supervisor.stop()
        self.supervisor.say("Everything is stopped.")

    # -- Programs -----------------------------------------------------------------------------------------------

    def _programs(self) -> list[Program]:
        python = sys.executable
        assert self.listener is not None
        file = self.listener.fileno()
        web = web_names(settings.WEB_PROCESSES)
        commands = {name: [python, "-m", "config.web", str(file)] for name in web}
        worker = [python, "-m", "dramatiq", "config.worker", "--processes", "1", "--threads", "4"]
        worker += ["--worker-shutdown-timeout", "6000", "--queues", *SHORT_QUEUES]
        commands |= {"worker": worker, "tick": self._manage("tick")}
        if not self.options["no_training"] and "gpu_worker" in get_commands():
            commands["training"] = self._manage("gpu_worker", "--drain-seconds", str(STOP_GRACE - 3))
        return [
            Program(
                name=name,
                launch=lambda name=name, command=command: Launch(  # type: ignore[misc]
                    command=command,
                    cwd=self.root,
                    env=self.env,
                    files=(file,) if name in web else (),
                ),
                is_ready=self._web_is_ready if name == "web" else lambda: True,
                grace=STOP_GRACE,
            )
            for name, command in commands.items()
        ]

    def _environment(self) -> dict[str, str]:
        paths = [str(self.root), str(self.root / "platform")]
        if os.environ.get("PYTHONPATH"):
            paths.append(os.environ["PYTHONPATH"])
        return {
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONUNBUFFERED": "1",
            "DJANGO_SETTINGS_MODULE": os.environ.get("DJANGO_SETTINGS_MODULE", "config.settings"),
            "LF_VAR_DIR": str(self.var),
            # Idle OpenMP threads that spin made two threads ten times slower than one on a busy machine.
            "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),
        }

    def _manage(self, *arguments: str) -> list[str]:
        return [sys.executable, str(self.root / "manage.py"), *arguments]

    def _web_is_ready(self) -> bool:
        connection = http.client.HTTPConnection(reachable(self.options["host"]), self.port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    # -- Words --------------------------------------------------------------------------------------------------

    def _took(self, what: str) -> None:
        self.supervisor.say(f"{what} ready after {time.monotonic() - self.began:.1f} s")

    def _announce(self, address: str) -> None:
        lines = ["", f"  LoRA Foundry runs at  {address}"]
        if login := demo_login(self.var):
            lines += [f"  Demo login            {login['email']}  {login['password']}"]
        lines += [f"  Logs and data         {self.var}", "  Ctrl-C stops everything; the data stays.", ""]
        self.supervisor.say("\n".join(lines))

    def _on_signal(self, number: int, frame: object) -> None:
        if not self.supervisor.stopping.is_set():
            self.supervisor.say("Stopping ...")
        self.supervisor.stopping.set()


def web_names(count: int) -> list[str]:
    """Return the names of so many web processes; the first is `web`."""
    return ["web", *(f"web{number}" for number in range(2, count + 1))]


def prepare(*, demo: bool) -> None:
    """Bring the database up to date and make the demo team, if the commands for it are installed."""
    for folder in (settings.STATIC_ROOT, settings.MAIL_DIR, settings.RUNS_DIR):
        Path(folder).mkdir(parents=True, exist_ok=True)
    call_command("migrate", interactive=False, verbosity=0)
    if demo and not settings.PRODUCTION and "seed_demo" in get_commands():
        call_command("seed_demo")


def preparation(root: Path, *, demo: bool) -> str:
    """Return a fingerprint of everything `prepare` depends on."""
    digest = hashlib.sha256(repr(demo).encode())
    sources = [root / "requirements" / "base.txt"]
    for pattern in ("*/migrations/*.py", "platform/*/migrations/*.py", "*/management/commands/seed_demo.py"):
        sources += sorted(root.glob(pattern))
    for path in sources:
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def demo_login(var: Path) -> dict[str, str] | None:
    """Read the login that `seed_demo` wrote down, None if there is no demo team."""
    try:
        login = json.loads((var / "demo.json").read_text())
        return {"email": str(login["email"]), "password": str(login["password"])}
    except (OSError, ValueError, KeyError):
        return None


def take_lock(var: Path) -> IO[str]:
    """Make this process the only one that runs on `var`; the system frees the lock when the process ends."""
    folder = var / "run"
    folder.mkdir(parents=True, exist_ok=True)
    lock = (folder / "up.lock").open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        pid, _, address = lock.read().strip().partition(" ")
        lock.close()
        raise CommandError(
            f"It runs already (process {pid or 'starting'}){f' at {address}' if address else ''}. "
            f"Stop that one first, or set LF_VAR_DIR to another folder."
        ) from None
    lock.seek(0)
    lock.truncate()
    lock.write(f"{os.getpid()}\n")
    lock.flush()
    return lock


def reachable(host: str) -> str:
    """Return the address at which this machine reaches a server that listens on `host`."""
    return "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104


def _service_program(service: LocalService) -> Program:
    return Program(
        name=service.name, launch=service.launch, before=service.settle, is_ready=service.is_ready, grace=5.0
    )
