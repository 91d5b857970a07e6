"""Server-Sent Events: the events of a training over plain HTTP, each once, for as long as the caller may see them."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import redis
from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from django.conf import settings
from django.db import connection
from django.utils import timezone

from accounts.roles import Can
from accounts.services.api_keys import create_api_key, revoke_api_key
from accounts.services.memberships import remove_member
from accounts.services.tokens import issue_tokens, revoke_tokens
from config.asgi import application
from core.realtime import event_streams, publish, stream
from projects.services.projects import change_visibility
from tests.api.clients import with_key
from tests.scenario import Scenario
from tests.training.queueing import Bench
from tests.training.theatre import Theatre
from training.models import JobEvent
from training.services import telemetry

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
async def theatre() -> AsyncIterator[Theatre]:
    yield await sync_to_async(Theatre)()
    await sync_to_async(lambda: connection.close())()


class Program:
    """A program that reads the stream of a training."""

    def __init__(
        self, uid: str, credential: str, *, query: str = "", method: str = "GET", **headers: str
    ) -> None:
        given = {"host": "testserver", "authorization": f"Bearer {credential}", "accept": "text/event-stream"}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        scope = {
            "type": "http",
            "method": method,
            "path": f"/api/v1/trainings/{uid}/stream",
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in given.items()],
            "client": ("127.0.0.1", 4000),
            "server": ("testserver", 80),
            "scheme": "http",
        }
        self.connection = ApplicationCommunicator(application, scope)
        self.headers: dict[str, str] = {}
        self.text = ""
        self.has_ended = False

    async def open(self) -> int:
        await self.connection.send_input({"type": "http.request", "body": b"", "more_body": False})
        start = await self.connection.receive_output(10)
        self.headers = {name.decode().lower(): value.decode() for name, value in start["headers"]}
        return int(start["status"])

    async def read(self, seconds: float = 10) -> None:
        message = await self.connection.receive_output(seconds)
        self.text += message["body"].decode()
        self.has_ended = not message.get("more_body", False)

    @property
    def events(self) -> list[dict[str, str]]:
        """Return what came, in the fields of the standard."""
        blocks = self.text.split("\n\n")[:-1]
        found = [dict(line.split(": ", 1) for line in block.split("\n") if line != ":") for block in blocks]
        return [block for block in found if "id" in block]

    @property
    def ids(self) -> list[int]:
        return [int(event["id"]) for event in self.events]

    async def until(self, seq: int) -> list[int]:
        while not self.ids or self.ids[-1] < seq:
            assert not self.has_ended, self.text
            await self.read()
        return self.ids

    async def until_the_end(self, seconds: float = 10) -> list[int]:
        while not self.has_ended:
            await self.read(seconds)
        await self.connection.wait(10)
        return self.ids

    async def leave(self) -> None:
        await self.connection.send_input({"type": "http.disconnect"})
        await self.connection.wait(10)


async def test_a_program_gets_the_past_then_the_present_and_then_the_end(theatre: Theatre) -> None:
    program = Program(theatre.job.uid, theatre.key.text)
    assert await program.open() == 200
    assert program.headers["content-type"] == "text/event-stream"
    assert program.headers["cache-control"] == "no-store, no-transform"
    assert "content-length" not in program.headers
    assert "ratelimit" in program.headers
    assert await program.until(2) == [1, 2]
    await sync_to_async(theatre.say)("one\ntwo", "drei – 三")
    assert await program.until(4) == [1, 2, 3, 4]
    await sync_to_async(theatre.cancel)()
    assert await program.until_the_end() == [1, 2, 3, 4, 5]
    stored = await sync_to_async(lambda: telemetry.events_after(theatre.job, 0))()
    assert [json.loads(event["data"]) for event in program.events] == stored
    assert [event["event"] for event in program.events] == ["status", "status", "log", "log", "status"]


@pytest.mark.parametrize(("query", "header"), [("after=2", ""), ("", "2"), ("after=0", "2")])
async def test_a_program_goes_on_where_it_was(theatre: Theatre, query: str, header: str) -> None:
    await sync_to_async(theatre.say)("three", "four")
    headers = {"last_event_id": header} if header else {}
    program = Program(theatre.job.uid, theatre.key.text, query=query, **headers)
    assert await program.open() == 200
    assert await program.until(4) == [3, 4]
    await program.leave()


async def test_a_program_that_comes_again_and_again_misses_nothing_and_gets_nothing_twice(
    theatre: Theatre,
) -> None:
    seen: list[int] = []

    async def talk() -> None:
        for number in range(30):
            await sync_to_async(theatre.say)(str(number))
            await asyncio.sleep(0.02)

    talking = asyncio.create_task(talk())
    while not seen or seen[-1] < 32:
        program = Program(theatre.job.uid, theatre.key.text, last_event_id=str(seen[-1] if seen else 0))
        assert await program.open() == 200
        while not program.ids:
            await program.read()
        seen += program.ids
        await program.leave()
    await talking
    assert seen == list(range(1, 33))


async def test_a_finished_training_is_told_to_its_end_and_then_there_is_nothing_more(
    theatre: Theatre,
) -> None:
    await sync_to_async(theatre.cancel)()
    program = Program(theatre.job.uid, theatre.key.text)
    assert await program.open() == 200
    assert await program.until_the_end() == [1, 2, 3]
    again = Program(theatre.job.uid, theatre.key.text, last_event_id="3")
    assert await again.open() == 204


async def test_the_stream_of_a_training_whose_log_is_gone_ends(theatre: Theatre) -> None:
    await sync_to_async(theatre.cancel)()
    await sync_to_async(JobEvent.objects.for_team(theatre.scenario.team).all().delete)()
    program = Program(theatre.job.uid, theatre.key.text)
    assert await program.open() == 200
    assert await program.until_the_end() == []


async def test_strangers_wrong_keys_and_nonsense_are_refused(theatre: Theatre) -> None:
    def keys() -> tuple[str, str]:
        stranger = create_api_key(actor=theatre.scenario.charlie, name="theirs").text
        lesser = create_api_key(actor=theatre.scenario.alice, name="less", scopes=[Can.DATASET_VIEW]).text
        return stranger, lesser

    stranger, lesser = await sync_to_async(keys)()
    for status, program in (
        (404, Program(theatre.job.uid, stranger)),
        (404, Program("trn_" + "0" * 26, theatre.key.text)),
        (403, Program(theatre.job.uid, lesser)),
        (401, Program(theatre.job.uid, "lf_live_nonsense")),
        (400, Program(theatre.job.uid, theatre.key.text, last_event_id="-1")),
        (422, Program(theatre.job.uid, theatre.key.text, query="after=x")),
        (400, Program(theatre.job.uid, theatre.key.text, query="before=1")),
    ):
        assert await program.open() == status
        assert program.headers["content-type"] == "application/problem+json"
        await program.until_the_end()
    assert stream.hub()._watched == {}


@pytest.mark.parametrize("change", ["key", "token", "member", "restricted"])
async def test_a_right_that_is_lost_ends_the_stream_at_once(theatre: Theatre, change: str) -> None:
    """Long before the stream would ask again by itself (`RECHECK_SECONDS`)."""
    owner, bob = theatre.scenario.alice, theatre.scenario.bob

    def prepare() -> tuple[str, Callable[[], object]]:
        if change == "key":
            return theatre.key.text, lambda: revoke_api_key(actor=owner, uid=theatre.key.key.uid)
        tokens, project = issue_tokens(actor=bob), theatre.job.project
        return tokens.access, {
            "token": lambda: revoke_tokens(tokens.refresh),
            "member": lambda: remove_member(actor=owner, user_uid=bob.user.uid),
            "restricted": lambda: change_visibility(actor=owner, uid=project.uid, is_restricted=True),
        }[change]

    credential, lose = await sync_to_async(prepare)()
    program = Program(theatre.job.uid, credential)
    assert await program.open() == 200
    await program.until(2)
    # The reader of the stream has begun; what changes from now on it is told.
    await asyncio.sleep(1.0)
    await sync_to_async(lose)()
    assert await program.until_the_end(4) == [1, 2]
    await sync_to_async(theatre.say)("secret")
    assert "secret" not in program.text


async def test_a_key_that_expires_ends_the_stream_in_time(theatre: Theatre, monkeypatch: Any) -> None:
    monkeypatch.setattr(stream, "RECHECK_SECONDS", 0.2)
    program = Program(theatre.job.uid, theatre.key.text)
    assert await program.open() == 200
    await program.until(2)
    keys = type(theatre.key.key).objects.for_team(theatre.scenario.team)
    await sync_to_async(keys.update)(expires_at=timezone.now())
    assert await program.until_the_end(4) == [1, 2]


async def test_a_quiet_stream_says_that_it_is_there(theatre: Theatre, monkeypatch: Any) -> None:
    assert event_streams.KEEP_ALIVE_SECONDS + stream.FRAME_SECONDS < 15
    monkeypatch.setattr(event_streams, "KEEP_ALIVE_SECONDS", 0.3)
    program = Program(theatre.job.uid, theatre.key.text, query="after=2")
    assert await program.open() == 200
    while program.text.count(":\n\n") < 2:
        await program.read(3)
    assert program.ids == []
    await program.leave()


async def test_without_redis_the_store_is_read(theatre: Theatre, monkeypatch: Any) -> None:
    monkeypatch.setattr(stream, "HEADS_EVERY_WITHOUT_STREAM", 0.1)
    monkeypatch.setattr(settings, "REDIS_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setattr(publish, "_client", None)
    monkeypatch.setattr(publish, "_try_after", 0.0)
    program = Program(theatre.job.uid, theatre.key.text)
    assert await program.open() == 200
    await program.until(2)
    await sync_to_async(theatre.say)("one", "two")
    assert await program.until(4) == [1, 2, 3, 4]
    await program.leave()
    monkeypatch.setattr(publish, "_client", None)


async def test_a_flushed_redis_loses_no_event(theatre: Theatre, monkeypatch: Any) -> None:
    monkeypatch.setattr(stream, "HEADS_EVERY", 0.2)
    program = Program(theatre.job.uid, theatre.key.text)
    assert await program.open() == 200
    await sync_to_async(theatre.say)("before")
    await program.until(3)
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        client.delete(publish.stream_key(f"training:{theatre.job.uid}"))
    await sync_to_async(theatre.say)("a", "b")
    assert await program.until(5) == [1, 2, 3, 4, 5]
    await program.leave()


async def test_a_client_that_takes_nothing_holds_little_and_is_caught_up_later(
    theatre: Theatre, monkeypatch: Any
) -> None:
    """The server's `send` waits for a client that does not read; what comes meanwhile is left in the store."""
    monkeypatch.setattr(stream, "WAITING_ITEMS", 3)
    readable, sent = asyncio.Event(), []

    async def send(message: Any) -> None:
        sent.append(message)
        if len(sent) > 1:
            await readable.wait()

    followed = event_streams.Stream(
        topic=f"training:{theatre.job.uid}", after=0, subject="x", has_ended=False, may_read=lambda: True
    )
    pump = asyncio.create_task(event_streams._pump(followed, send))
    while len(sent) < 2:
        await asyncio.sleep(0.05)
    (subscription,) = stream.hub()._watched[followed.topic]
    for number in range(5):
        await sync_to_async(theatre.say)(*(f"{number}/{part}" for part in range(4)))
    await asyncio.sleep(1.5)
    assert len(subscription.waiting) <= 3
    readable.set()
    await sync_to_async(theatre.cancel)()
    await asyncio.wait_for(pump, 10)
    text = b"".join(message["body"] for message in sent).decode()
    ids = [int(line[4:]) for line in text.splitlines() if line.startswith("id: ")]
    assert ids == list(range(1, 24))


async def test_a_client_that_takes_nothing_for_long_is_given_up(theatre: Theatre, monkeypatch: Any) -> None:
    monkeypatch.setattr(event_streams, "SEND_SECONDS", 0.2)

    async def send(message: Any) -> None:
        await asyncio.sleep(60)

    followed = event_streams.Stream(
        topic=f"training:{theatre.job.uid}", after=0, subject="x", has_ended=False, may_read=lambda: True
    )
    with pytest.raises(TimeoutError):
        await event_streams._pump(followed, send)
    assert stream.hub()._watched == {}


async def test_open_streams_hold_no_thread_and_share_one_reader(theatre: Theatre) -> None:
    first = Program(theatre.job.uid, theatre.key.text)
    assert await first.open() == 200
    await first.until(2)
    threads = threading.active_count()
    programs = [Program(theatre.job.uid, theatre.key.text) for _number in range(8)]
    for program in programs:
        assert await program.open() == 200
        await program.until(2)
    assert threading.active_count() <= threads
    assert len(stream.hub()._tasks) == 2  # streams and heads
    await sync_to_async(theatre.say)("all")
    for program in (first, *programs):
        assert await program.until(3) == [1, 2, 3]
        await program.leave()
    assert stream.hub()._tasks == []


async def test_only_so_many_streams_are_open_at_once_for_one_person(
    theatre: Theatre, monkeypatch: Any
) -> None:
    monkeypatch.setattr(event_streams, "STREAMS_EACH", 1)
    first = Program(theatre.job.uid, theatre.key.text)
    assert await first.open() == 200
    await first.until(2)
    second = Program(theatre.job.uid, theatre.key.text)
    assert await second.open() == 429
    assert second.headers["retry-after"] == "2"
    await second.until_the_end()
    assert json.loads(second.text)["code"] == "too_many_streams"
    # Another person's are counted apart, and who leaves makes room.
    token = (await sync_to_async(issue_tokens)(actor=theatre.scenario.bob)).access
    other = Program(theatre.job.uid, token)
    assert await other.open() == 200
    await other.leave()
    await first.leave()
    third = Program(theatre.job.uid, theatre.key.text)
    assert await third.open() == 200
    await third.leave()


async def test_a_head_request_opens_no_stream(theatre: Theatre) -> None:
    program = Program(theatre.job.uid, theatre.key.text, method="HEAD")
    assert await program.open() == 200
    await program.until_the_end()  # the server leaves its body out
    assert stream.hub()._watched == {}


def test_a_server_without_streams_gives_what_is_stored_and_the_address_is_told(scenario: Scenario) -> None:
    bench = Bench(scenario.alice)
    job = bench.job()
    client = with_key(scenario.alice)
    address = client.get(f"/api/v1/trainings/{job.uid}").json()["urls"]["stream"]
    assert address.endswith(f"/api/v1/trainings/{job.uid}/stream")
    answer = client.get(address)
    assert answer.status_code == 200
    assert answer.content.decode().startswith("retry: 2000\n\nid: 1\nevent: status\ndata: {")
