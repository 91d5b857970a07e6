"""The clock: one active at a time, a failing duty harms no other, a lost database is survived."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import psycopg
import pytest
from django.core.management import call_command
from django.db import connection

from core import periodic
from core.periodic import Clock, Leadership, every
from core.processes import wait_until

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def only_the_duties_of_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(periodic, "_duties", {})


@pytest.fixture
def leaders() -> Iterator[list[Leadership]]:
    made = [Leadership(), Leadership()]
    yield made
    for leadership in made:
        leadership.give_up()


def test_the_second_clock_stands_by_until_the_first_is_gone(leaders: list[Leadership]) -> None:
    first, second = leaders
    assert first.held() is True
    assert second.held() is False
    assert first.held() is True  # asking again takes no second lock
    first.give_up()
    assert wait_until(second.held, timeout=5)


def test_a_clock_whose_session_was_ended_loses_the_lock_and_comes_back(leaders: list[Leadership]) -> None:
    first, second = leaders
    assert first.held()
    with psycopg.connect(**_parameters(), autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'lora-foundry-tick'"
        )
    assert second.held() is True
    assert first.held() is False
    second.give_up()
    assert wait_until(first.held, timeout=5)


def _parameters() -> dict[str, object]:
    parameters = connection.get_connection_params()
    return {name: parameters[name] for name in ("host", "port", "dbname", "user", "password")}


@pytest.mark.django_db(transaction=True)
def test_a_failing_duty_is_logged_and_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    calls: list[str] = []

    @every(0.01)
    def broken() -> None:
        calls.append("broken")
        raise ValueError("no such lease")

    @every(0.01)
    def healthy() -> None:
        calls.append("healthy")

    stopping = threading.Event()
    clock = Clock()
    thread = threading.Thread(target=clock.run, args=[stopping], kwargs={"pause": 0.01})
    with caplog.at_level(logging.ERROR, "core.periodic"):
        thread.start()
        assert wait_until(lambda: calls.count("healthy") >= 2 and calls.count("broken") >= 2, timeout=20)
        stopping.set()
        thread.join(10)
    assert not thread.is_alive()
    assert "broken failed" in caplog.messages[0]


@pytest.mark.django_db(transaction=True)
def test_a_slow_duty_never_overlaps_itself() -> None:
    at_once: list[int] = []
    inside = threading.Semaphore(1)
    release = threading.Event()

    @every(0.01)
    def slow() -> None:
        at_once.append(int(inside.acquire(blocking=False)))
        release.wait(20)
        inside.release()

    clock = Clock()
    try:
        for _ in range(5):
            clock.tick()
            clock._due.clear()
        assert wait_until(lambda: at_once == [1], timeout=10)
    finally:
        release.set()
        clock.run(_set())
    assert at_once == [1]


def _set() -> threading.Event:
    event = threading.Event()
    event.set()
    return event


def test_tick_once_runs_every_duty(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(connection, "close", lambda: None)  # the test's own transaction must stay open
    every(3600)(lambda: calls.append("hourly"))
    call_command("tick", "--once")
    assert calls == ["hourly"]


def test_a_duty_needs_a_positive_period() -> None:
    with pytest.raises(ValueError, match="positive"):
        every(0)
