"""Give every test session a PostgreSQL and a Valkey of its own, before Django reads its settings.

Loaded with `-p tests.embedded`. The servers' folders are kept under var/tests, so that only the very first session
pays for making them; two sessions at once take two folders. Under pytest-xdist the controller starts one pair for
all workers: pytest-django gives each worker a database, and here each gets a Valkey database number.

LF_TEST_DATABASE_URL and LF_TEST_REDIS_URL point the tests to other servers. DATABASE_URL and REDIS_URL are
overridden on purpose: no test can reach the data of a running installation.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import IO

import psycopg
import pytest
from psycopg import sql

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT / "platform") not in sys.path:
    sys.path[:0] = [str(ROOT), str(ROOT / "platform")]

from core import services_local  # noqa: E402
from core.processes import stop  # noqa: E402
from core.service_programs import ServiceError  # noqa: E402

CLEAN = "clean_"  # prefix of the untouched copy of a test database


class TestServices:
    """Hold the servers of one test session."""

    __test__ = False

    def __init__(self) -> None:
        self.folder, self._lock = _take_folder()
        self.postgres = services_local.Postgres(self.folder / "postgres", durable=False)
        self.valkey = services_local.Valkey(self.folder / "valkey", durable=False)
        self._processes: list[tuple[services_local.LocalService, subprocess.Popen[bytes]]] = []

    def start(self) -> None:
        for service in (self.postgres, self.valkey):
            try:
                process = services_local.start(service)
            except ServiceError:
                # Without fsync a crash of the machine may leave a folder that cannot be opened: begin anew.
                services_local.discard(service)
                process = services_local.start(service)
            self._processes.append((service, process))
        os.environ["DATABASE_URL"] = self.postgres.url
        os.environ["REDIS_URL"] = self.valkey.url

    def stop(self) -> None:
        while self._processes:
            service, process = self._processes.pop()
            stop(process, by=service.stop_signal, grace=5)
        self._lock.close()

    def restore_databases(self) -> None:
        """Put untouched copies of the migrated databases in place; drop those of other migrations."""
        stamp = self.folder / "migrations"
        current = _migrations_fingerprint()
        if not stamp.exists() or stamp.read_text() != current:
            self._drop(like=f"{CLEAN}%")
            stamp.write_text(current)
        self._drop(like="test_%")
        with self._admin() as connection:
            for name in self._names(connection, f"{CLEAN}%"):
                _copy_database(connection, name, name.removeprefix(CLEAN))

    def _drop(self, *, like: str) -> None:
        with self._admin() as connection:
            for name in self._names(connection, like):
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def _names(self, connection: psycopg.Connection, like: str) -> list[str]:
        query = "SELECT datname FROM pg_database WHERE datname LIKE %s ORDER BY 1"
        return [row[0] for row in connection.execute(query, [like.replace("_", r"\_")]).fetchall()]

    def _admin(self) -> psycopg.Connection:
        return psycopg.connect(self.postgres.url_of("postgres"), autocommit=True)


def _take_folder() -> tuple[Path, IO[str]]:
    """Return a folder no other session uses, and the open file whose lock says so."""
    number = 0
    while True:
        folder = ROOT / "var" / "tests" / f"session-{number}"
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return folder, lock
        except BlockingIOError:
            lock.close()
            number += 1


def _migrations_fingerprint() -> str:
    digest = hashlib.sha256()
    sources = [*ROOT.glob("*/migrations/*.py"), *ROOT.glob("platform/*/migrations/*.py")]
    for path in [*sorted(sources), ROOT / "requirements" / "base.txt", ROOT / "tests" / "conftest.py"]:
        if path.exists():
            digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _copy_database(connection: psycopg.Connection, source: str, target: str) -> None:
    statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY")
    connection.execute(statement.format(sql.Identifier(target), sql.Identifier(source)))


_services: TestServices | None = None


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> Generator[None, None, None]:
    """Start the servers before pytest-django imports the settings, which happens in this same hook."""
    global _services
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker:
        number = int(worker.removeprefix("gw")) + 1
        os.environ["REDIS_URL"] = os.environ["REDIS_URL"].rpartition("/")[0] + f"/{number}"
    elif os.environ.get("LF_TEST_DATABASE_URL") and os.environ.get("LF_TEST_REDIS_URL"):
        os.environ["DATABASE_URL"] = os.environ["LF_TEST_DATABASE_URL"]
        os.environ["REDIS_URL"] = os.environ["LF_TEST_REDIS_URL"]
    else:
        _services = TestServices()
        _services.start()
        _services.restore_databases()
        # Restored databases are used as they are; missing ones are made by pytest-django.
        early_config.known_args_namespace.reuse_db = True
        args.append("--reuse-db")
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """Keep an untouched copy of a freshly migrated test database for the next session."""
    result = yield
    if fixturedef.argname == "django_db_setup" and "LF_TEST_DATABASE_URL" not in os.environ:
        from django.db import connection

        name = connection.settings_dict["NAME"]
        connection.close()
        admin_url = os.environ["DATABASE_URL"].rpartition("/")[0] + "/postgres"
        with psycopg.connect(admin_url, autocommit=True) as admin:
            found = admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", [CLEAN + name]).fetchone()
            if not found:
                _copy_database(admin, name, CLEAN + name)
    return result


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the servers after everything else has closed its connections."""
    global _services
    if _services:
        _services.stop()
        _services = None
