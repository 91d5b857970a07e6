"""The points of a curve go from the log a day after the end of a training, and nobody who follows it stumbles."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.utils import timezone

from accounts.models import Forgotten
from core.realtime import stream
from tests.api.clients import with_key
from tests.scenario import Scenario, make_scenario
from tests.training.queueing import Bench
from tests.training.test_event_stream import Program
from tests.training.test_live_socket import Browser
from training import retention
from training.models import JobEvent, TrainingJob
from training.retention import forget_metrics_events
from training.states import JobState


@pytest.fixture(autouse=True)
def _nothing_was_looked_at_before() -> Iterator[None]:
    cache.delete(retention._TIDIED)
    yield
    cache.delete(retention._TIDIED)


def ended(bench: Bench, *, days: float, kinds: str) -> TrainingJob:
    """Return a training that ended so many days ago with one event for each letter: (m)etrics, (l)og, (s)tatus."""
    job, team = bench.job(f"run {kinds}"), bench.actor.team
    JobEvent.objects.for_team(team).filter(job=job).delete()
    names = {"m": "metrics", "l": "log", "s": "status"}
    JobEvent.objects.bulk_create(
        JobEvent(
            team=team,
            job=job,
            seq=seq,
            fence=1,
            type=names[kind],
            at=timezone.now(),
            data={"state": "succeeded"} if kind == "s" else {"n": seq},
        )
        for seq, kind in enumerate(kinds, 1)
    )
    moment = timezone.now() - timedelta(days=days)
    TrainingJob.objects.for_team(team).filter(pk=job.pk).update(
        state=JobState.SUCCEEDED, finished_at=moment, last_seq=len(kinds)
    )
    job.refresh_from_db()
    return job


def seqs(job: TrainingJob) -> list[int]:
    rows = JobEvent.objects.for_team(job.team).filter(job=job)
    return list(rows.order_by("seq").values_list("seq", flat=True))


@pytest.mark.django_db
def test_they_go_a_day_after_the_end_and_nothing_else_does(scenario: Scenario) -> None:
    bench = Bench(scenario.alice)
    late, soon = ended(bench, days=1.1, kinds="lmmls"), ended(bench, days=0.9, kinds="lmmls")
    running = bench.job("running")
    JobEvent.objects.create(
        team=scenario.team, job=running, seq=2, fence=1, type="metrics", at=timezone.now(), data={}
    )
    assert forget_metrics_events() == 2
    assert (seqs(late), seqs(soon), seqs(running)) == ([1, 4, 5], [1, 2, 3, 4, 5], [1, 2])
    assert not Forgotten.objects.for_team(scenario.team).exists()
    assert forget_metrics_events() == 0
    # What ends later is found although what ended before is not looked at again.
    TrainingJob.objects.for_team(scenario.team).filter(pk=soon.pk).update(
        finished_at=timezone.now() - timedelta(days=1.01)
    )
    assert forget_metrics_events() == 2
    assert seqs(soon) == [1, 4, 5]


@pytest.mark.django_db
def test_many_trainings_cost_as_many_queries_as_one_and_many_rows_go_in_batches(
    scenario: Scenario, django_assert_num_queries: Any, monkeypatch: Any
) -> None:
    bench = Bench(scenario.alice)
    ended(bench, days=2, kinds="ms")
    with django_assert_num_queries(3):
        assert forget_metrics_events() == 1
    cache.delete(retention._TIDIED)
    jobs = [ended(bench, days=2 + number, kinds="lmmms") for number in range(20)]
    with django_assert_num_queries(3):
        assert forget_metrics_events() == 60
    assert {tuple(seqs(job)) for job in jobs} == {(1, 5)}
    cache.delete(retention._TIDIED)
    monkeypatch.setattr(retention, "_AT_ONCE", 4)
    monkeypatch.setattr(retention, "_MOST_AT_ONCE", 8)
    job = ended(bench, days=3, kinds="m" * 11 + "s")
    assert [forget_metrics_events() for _run in range(3)] == [8, 3, 0]
    assert seqs(job) == [12]


@pytest.mark.django_db
def test_the_api_leads_to_the_end_over_the_gaps(scenario: Scenario, monkeypatch: Any) -> None:
    job = ended(Bench(scenario.alice), days=2, kinds="lmmmlmms")
    forget_metrics_events()
    monkeypatch.setattr("training.api.events.EVENTS_PER_PAGE", 2)
    client, after, found, pages = with_key(scenario.alice), 0, [], 0
    while True:
        page = client.get(f"/api/v1/trainings/{job.uid}/events?after={after}").json()
        found += [event["seq"] for event in page["data"]]
        after, pages = page["next_after"], pages + 1
        if not page["has_more"]:
            break
    assert (found, after, pages) == ([1, 5, 8], 8, 2)
    within = client.get(f"/api/v1/trainings/{job.uid}/events?after=3").json()
    assert [event["seq"] for event in within["data"]] == [5, 8]


@pytest.mark.django_db
def test_a_page_that_asks_gets_what_is_left_and_the_head(scenario: Scenario, client: Client) -> None:
    job = ended(Bench(scenario.alice), days=2, kinds="lmms")
    forget_metrics_events()
    client.force_login(scenario.alice.user)
    answer = client.get(f"/t/{scenario.team.slug}/trainings/{job.uid}/events/?after=1").json()
    assert ([each["seq"] for each in answer["items"]], answer["head"]) == ([4], 4)
    JobEvent.objects.for_team(scenario.team).filter(job=job).delete()
    answer = client.get(f"/t/{scenario.team.slug}/trainings/{job.uid}/events/?after=1").json()
    assert answer == {"items": [], "head": 4}


@pytest.fixture
async def watched() -> AsyncIterator[tuple[Scenario, TrainingJob]]:
    def make() -> tuple[Scenario, TrainingJob]:
        scenario = make_scenario()
        job = ended(Bench(scenario.alice), days=2, kinds="lmmmlmms")
        assert forget_metrics_events() == 5
        return scenario, job

    yield await sync_to_async(make)()
    await sync_to_async(lambda: connection.close())()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("after", [0, 1, 3, 5, 7])
async def test_a_browser_that_comes_back_later_is_told_the_whole_range(
    watched: tuple[Scenario, TrainingJob], after: int
) -> None:
    scenario, job = watched
    browser = Browser(scenario.alice.user)
    assert await browser.open()
    await browser.follow(f"training:{job.uid}", after=after)
    frame = await browser.next()
    assert (frame["from"], frame["to"]) == (after + 1, 8)
    assert [item["seq"] for item in frame["items"]] == [seq for seq in (1, 5, 8) if seq > after]
    await browser.close()


@pytest.mark.django_db(transaction=True)
async def test_a_browser_gets_past_events_of_which_none_is_left_and_the_store_is_let_alone(
    watched: tuple[Scenario, TrainingJob], monkeypatch: Any
) -> None:
    monkeypatch.setattr(stream, "HEADS_EVERY", 0.2)
    scenario, job = watched
    await sync_to_async(JobEvent.objects.for_team(scenario.team).all().delete)()
    browser = Browser(scenario.alice.user)
    assert await browser.open()
    await browser.follow(f"training:{job.uid}", after=2)
    frame = await browser.next()
    assert (frame["from"], frame["to"], frame["items"]) == (3, 8, [])
    (subscription,) = stream.hub()._watched[f"training:{job.uid}"]
    await asyncio.sleep(1.0)
    assert not subscription.behind
    await browser.close()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("after", [0, 2, 7])
async def test_a_program_that_comes_later_gets_what_is_left_and_the_end(
    watched: tuple[Scenario, TrainingJob], after: int
) -> None:
    scenario, job = watched
    key = (await sync_to_async(lambda: with_key(scenario.alice))())._credentials["HTTP_AUTHORIZATION"]
    program = Program(job.uid, key.removeprefix("Bearer "), last_event_id=str(after))
    assert await program.open() == 200
    assert await program.until_the_end() == [seq for seq in (1, 5, 8) if seq > after]
    assert json.loads(program.events[-1]["data"])["data"] == {"state": "succeeded"}
