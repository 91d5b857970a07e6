"""Tell whether this installation works: `/healthz` and `/readyz` for machines, `manage.py doctor` for people."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import redis
from django.conf import settings
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, JsonResponse

State = Literal["ok", "warning", "failed"]


@dataclass(frozen=True)
class Finding:
    """Say how one thing is, and what to do if it is not well."""

    name: str
    state: State
    detail: str
    remedy: str = ""


def check_database() -> Finding:
    """Ask the database for its version and the time; a clock that differs breaks leases."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('server_version'), extract(epoch FROM clock_timestamp())")
            version, there = cursor.fetchone()
    except Exception as error:
        return Finding(
            "database", "failed", str(error).strip(), "Start it (`make up`) or correct DATABASE_URL."
        )
    apart = abs(time.time() - float(there))
    if apart > 5:
        return Finding(
            "database", "warning", f"its clock is {apart:.0f} s apart from ours", "Synchronise both clocks."
        )
    return Finding("database", "ok", f"PostgreSQL {version}")


_migrated = False


def check_migrations() -> Finding:
    """Compare the migrations on disk with those applied; remembered once all of them are."""
    global _migrated
    if _migrated:
        return Finding("migrations", "ok", "all applied")
    try:
        executor = MigrationExecutor(connection)
        plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except Exception as error:
        return Finding("migrations", "failed", str(error).strip(), "The database must answer first.")
    if plan:
        return Finding("migrations", "failed", f"{len(plan)} not applied", "Run `manage.py migrate`.")
    _migrated = True
    return Finding("migrations", "ok", "all applied")


def check_redis() -> Finding:
    """Ask Redis whether it answers and whether it may forget: a queue must not lose what it was given."""
    try:
        with redis.Redis.from_url(settings.REDIS_URL, socket_timeout=3) as client:
            client.ping()
            forgets = _setting(client, "maxmemory-policy") not in ("", "noeviction")
            version = client.info("server").get("redis_version", "")
    except redis.RedisError as error:
        return Finding("redis", "failed", str(error), "Start it (`make up`) or correct REDIS_URL.")
    if forgets:
        return Finding(
            "redis", "warning", "it may evict queued messages", "Set maxmemory-policy to noeviction."
        )
    return Finding("redis", "ok", f"answers as {version}")


def _setting(client: redis.Redis, name: str) -> str:
    try:
        return str(client.config_get(name).get(name, ""))
    except redis.ResponseError:  # hosted servers often forbid CONFIG
        return ""


def readiness() -> list[Finding]:
    """Check what a request needs: database, migrations, Redis."""
    return [check_database(), check_migrations(), check_redis()]


class HealthMiddleware:
    """Answer `/healthz` and `/readyz` before anything else: whoever asks names no host and needs no session."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        answer = {"/healthz": healthz, "/readyz": readyz}.get(request.path)
        return answer(request) if answer else self.get_response(request)


def healthz(request: HttpRequest) -> JsonResponse:
    """Answer that the process lives; touches nothing else, so that a slow database restarts no web server."""
    return JsonResponse({"status": "ok"})


def readyz(request: HttpRequest) -> JsonResponse:
    """Answer 200 when requests can be served, 503 with the failing parts when not; shows no addresses."""
    findings = readiness()
    ready = all(finding.state != "failed" for finding in findings)
    parts = {finding.name: finding.state for finding in findings}
    return JsonResponse(
        {"status": "ok" if ready else "failed", "checks": parts}, status=200 if ready else 503
    )
