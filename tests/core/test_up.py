"""`manage.py up` as a whole: it comes up, heals what is killed, refuses a second start, and leaves nothing behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator

import dramatiq
import psycopg
import pytest

from core.outbox import load_short_jobs
from core.processes import is_running, wait_until
from tests.installation import START, Installation

pytestmark = [pytest.mark.slow]


@pytest.fixture
def up() -> Iterator[Installation]:
    up = Installation()
    yield up
    up.stop()


def every_lost_message_is_sent_again(up: Installation) -> None:
    """Write down one short job of each kind, of nothing that exists, without a message: the clock sends it."""
    load_short_jobs()
    kinds = [
        name for name, actor in dramatiq.get_broker().actors.items() if actor.fn.__module__ == "core.outbox"
    ]
    assert {"ingest_upload", "act_on_stripe_event", "mail_notification"} < set(kinds)
    services = json.loads((up.var / "run" / "services.json").read_text())
    with psycopg.connect(services["DATABASE_URL"], autocommit=True) as database:
        for kind in kinds:
            database.execute(
                "INSERT INTO core_outboxmessage"
                " (actor, subject_uid, sends, failures, last_error, created_at, next_try_at)"
                " VALUES (%s, 'nothing', 1, 0, '', now(), now())",
                [kind],
            )

        def left() -> list[str]:
            untouched = "done_at IS NULL AND failures = 0 AND taken_until IS NULL"
            return [
                row[0] for row in database.execute(f"SELECT actor FROM core_outboxmessage WHERE {untouched}")
            ]

        assert wait_until(lambda: not left(), timeout=60), left()


def test_it_comes_up_heals_refuses_a_second_start_and_stops_clean(up: Installation) -> None:
    up.wait_until_ready()
    assert up.status() == 200
    every_lost_message_is_sent_again(up)

    second = subprocess.run(up.command(), env=up.env, cwd=up.var, capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert f"It runs already (process {up.process.pid}) at http://127.0.0.1:{up.port}." in second.stderr

    for words in (["config.web"], ["dramatiq"], ["manage.py", "tick"], ["postgres", "-D"], ["valkey"]):
        victim = up.child(*words)
        victim.kill()
        assert wait_until(lambda victim=victim: not is_running(victim), timeout=10)  # type: ignore[misc]
        assert wait_until(lambda words=words: up.has_child(*words), timeout=90), words  # type: ignore[misc]
    assert wait_until(lambda: up.status() == 200, timeout=START)
    assert up.text().count("was killed by signal 9") == 5

    children = up.children()
    up.process.send_signal(signal.SIGTERM)
    assert up.process.wait(45) == 0  # seconds; under five on an idle machine
    assert [p for p in children.values() if is_running(p)] == []
    assert up.text().rstrip().endswith("Everything is stopped.")


def test_nothing_outlives_a_kill_and_the_next_start_needs_no_help(up: Installation) -> None:
    assert wait_until(lambda: up.status() == 200, timeout=START)
    children = up.children()
    up.process.kill()
    up.process.wait()
    if sys.platform == "linux":
        gone = wait_until(lambda: not any(is_running(p) for p in children.values()), timeout=20)
        assert gone, [p.cmdline() for p in children.values() if is_running(p)]
    up.process = up.begin()
    up.wait_until_ready()
    assert up.status() == 200
