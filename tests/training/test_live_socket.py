"""The socket: only members follow a training, and each browser gets every event once, whatever breaks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis
from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.db import connection

from accounts.models import Membership, User
from accounts.roles import Role
from accounts.services.memberships import change_role, remove_member
from accounts.services.teams import delete_team
from core.realtime import consumers, publish, stream
from core.realtime.consumers import LiveConsumer
from projects.services.projects import change_visibility
from tests.training.theatre import Theatre

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
async def theatre() -> AsyncIterator[Theatre]:
    yield await sync_to_async(Theatre)()
    await sync_to_async(lambda: connection.close())()


class Browser:
    """A browser's side of the socket."""

    def __init__(self, user: Any) -> None:
        scope = {"type": "websocket", "path": "/ws/", "headers": [], "query_string": b"", "user": user}
        self.socket = ApplicationCommunicator(LiveConsumer.as_asgi(), scope)
        self.items: list[dict[str, Any]] = []
        self.frames: list[dict[str, Any]] = []

    async def open(self) -> bool:
        await self.socket.send_input({"type": "websocket.connect"})
        answer = await self.socket.receive_output(10)
        return bool(answer["type"] == "websocket.accept")

    async def say(self, text: str) -> None:
        await self.socket.send_input({"type": "websocket.receive", "text": text})

    async def follow(self, topic: Any, after: int = 0) -> None:
        await self.say(json.dumps({"subscribe": topic, "after": after}))

    async def next(self, seconds: float = 10) -> dict[str, Any]:
        answer = await self.socket.receive_output(seconds)
        frame: dict[str, Any] = json.loads(answer["text"])
        self.frames.append(frame)
        self.items.extend(frame.get("items", []))
        return frame

    async def hears_nothing(self) -> bool:
        return bool(await self.socket.receive_nothing(timeout=1.0))

    async def close(self) -> None:
        await self.socket.send_input({"type": "websocket.disconnect", "code": 1000})
        await self.socket.wait(10)

    async def until(self, seq: int) -> list[int]:
        """Read frames up to the event `seq`; return the numbers of all events that came."""
        while not self.items or self.items[-1]["seq"] < seq:
            await self.next()
        return [item["seq"] for item in self.items]


async def test_a_member_gets_the_past_and_then_the_present(theatre: Theatre) -> None:
    browser = Browser(theatre.scenario.bob.user)
    assert await browser.open()
    await browser.follow(theatre.topic)
    frame = await browser.next()
    assert (frame["topic"], frame["from"], frame["to"]) == (theatre.topic, 1, 2)
    assert [item["data"]["state"] for item in frame["items"]] == ["queued", "starting"]
    await sync_to_async(theatre.say)("one", "two")
    await sync_to_async(theatre.say)("three")
    assert await browser.until(5) == [1, 2, 3, 4, 5]
    assert [item["data"]["message"] for item in browser.items[2:]] == ["one", "two", "three"]
    await browser.close()


async def test_a_reconnecting_browser_misses_nothing_and_gets_nothing_twice(theatre: Theatre) -> None:
    seen: list[int] = []

    async def talk() -> None:
        for number in range(40):
            await sync_to_async(theatre.say)(str(number))
            await asyncio.sleep(0.02)

    talking = asyncio.create_task(talk())
    while not seen or seen[-1] < 42:
        browser = Browser(theatre.scenario.alice.user)
        assert await browser.open()
        await browser.follow(theatre.topic, after=seen[-1] if seen else 0)
        await browser.next()
        seen += [item["seq"] for item in browser.items]
        await browser.close()
    await talking
    assert seen == list(range(1, 43))


async def test_a_stranger_and_a_wrong_topic_get_the_same_answer(theatre: Theatre) -> None:
    browser = Browser(theatre.scenario.charlie.user)
    assert await browser.open()
    for topic in (
        theatre.topic,
        "training:trn_unknown",
        "nothing:at_all",
        "",
        None,
        7,
        "training:" + "x" * 500,
    ):
        await browser.follow(topic)
        answer = await browser.next()
        assert answer["error"] == "not_found"
        assert "items" not in answer
    await sync_to_async(theatre.say)("secret")
    assert await browser.hears_nothing()
    await browser.close()


async def test_nobody_who_is_not_logged_in_gets_a_socket() -> None:
    assert not await Browser(AnonymousUser()).open()


async def test_nonsense_is_answered_and_does_no_harm(theatre: Theatre) -> None:
    browser = Browser(theatre.scenario.alice.user)
    assert await browser.open()
    for text in ("", "[]", "{", "5", '{"subscribe": "training:x", "after": -1}', '{"after": "x"}'):
        await browser.say(text)
        assert (await browser.next())["error"] == "not_understood"
    await browser.follow(theatre.topic, after=1)
    assert await browser.until(2) == [2]
    await browser.close()


@pytest.mark.parametrize("change", ["role", "removed", "restricted", "team deleted"])
async def test_changed_rights_are_felt_by_open_sockets_at_once(theatre: Theatre, change: str) -> None:
    """Long before the socket would ask again by itself (`RECHECK_SECONDS`)."""
    owner, bob = theatre.scenario.alice, theatre.scenario.bob.user
    changes = {
        "role": lambda: change_role(actor=owner, user_uid=bob.uid, role=Role.BILLING),
        "removed": lambda: remove_member(actor=owner, user_uid=bob.uid),
        "restricted": lambda: change_visibility(actor=owner, uid=theatre.job.project.uid, is_restricted=True),
        "team deleted": lambda: delete_team(actor=owner, name=owner.team.name),
    }
    browser = Browser(bob)
    assert await browser.open()
    await browser.follow(theatre.topic)
    await browser.until(2)
    # The reader of the stream has begun; what changes from now on it is told.
    await asyncio.sleep(1.0)
    await sync_to_async(changes[change])()
    assert (await browser.next(4))["error"] == "not_found"
    await sync_to_async(theatre.say)("secret")
    assert await browser.hears_nothing()
    await browser.close()


async def test_a_member_who_is_removed_hears_no_more(theatre: Theatre, monkeypatch: Any) -> None:
    monkeypatch.setattr(stream, "RECHECK_SECONDS", 0.0)
    monkeypatch.setattr(consumers, "HEARTBEAT_SECONDS", 0.2)
    browser = Browser(theatre.scenario.bob.user)
    assert await browser.open()
    await browser.follow(theatre.topic)
    await browser.until(2)
    await sync_to_async(Membership.objects.filter(user=theatre.scenario.bob.user).delete)()
    while (await browser.next()).get("error") != "not_found":
        pass
    await sync_to_async(theatre.say)("secret")
    assert await browser.hears_nothing()
    await browser.close()


async def test_a_person_who_is_switched_off_follows_nothing(theatre: Theatre) -> None:
    await sync_to_async(User.objects.filter(pk=theatre.scenario.alice.user.pk).update)(is_active=False)
    browser = Browser(theatre.scenario.alice.user)
    assert await browser.open()
    await browser.follow(theatre.topic)
    assert (await browser.next())["error"] == "not_found"
    await browser.close()


async def test_the_head_is_told_so_that_a_gap_is_seen(theatre: Theatre, monkeypatch: Any) -> None:
    monkeypatch.setattr(consumers, "HEARTBEAT_SECONDS", 0.2)
    browser = Browser(theatre.scenario.alice.user)
    assert await browser.open()
    await browser.follow(theatre.topic)
    await browser.until(2)
    beat = await browser.next()
    assert beat == {"topic": theatre.topic, "head": 2}
    await browser.close()


async def test_without_redis_the_store_is_read(theatre: Theatre, monkeypatch: Any) -> None:
    monkeypatch.setattr(stream, "HEADS_EVERY_WITHOUT_STREAM", 0.1)
    monkeypatch.setattr(settings, "REDIS_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setattr(publish, "_client", None)
    monkeypatch.setattr(publish, "_try_after", 0.0)
    browser = Browser(theatre.scenario.alice.user)
    assert await browser.open()
    await browser.follow(theatre.topic)
    await browser.until(2)
    for number in range(5):
        await sync_to_async(theatre.say)(str(number))
    assert await browser.until(7) == [1, 2, 3, 4, 5, 6, 7]
    await browser.close()
    monkeypatch.setattr(publish, "_client", None)


async def test_a_flushed_redis_loses_no_event(theatre: Theatre, monkeypatch: Any) -> None:
    monkeypatch.setattr(stream, "HEADS_EVERY", 0.2)
    browser = Browser(theatre.scenario.alice.user)
    assert await browser.open()
    await browser.follow(theatre.topic)
    await sync_to_async(theatre.say)("before")
    await browser.until(3)
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        client.delete(publish.stream_key(theatre.topic))
    for number in range(3):
        await sync_to_async(theatre.say)(str(number))
    assert await browser.until(6) == [1, 2, 3, 4, 5, 6]
    await browser.close()


async def test_a_browser_that_overflows_is_caught_up_from_the_store(
    theatre: Theatre, monkeypatch: Any
) -> None:
    monkeypatch.setattr(stream, "WAITING_ITEMS", 3)
    browser = Browser(theatre.scenario.alice.user)
    assert await browser.open()
    await browser.follow(theatre.topic)
    await browser.until(2)
    for number in range(5):
        await sync_to_async(theatre.say)(*(f"{number}/{part}" for part in range(4)))
    assert await browser.until(22) == list(range(1, 23))
    await browser.close()


async def test_a_browser_gets_at_most_four_frames_a_second(theatre: Theatre) -> None:
    browser = Browser(theatre.scenario.alice.user)
    assert await browser.open()
    await browser.follow(theatre.topic)
    await browser.until(2)
    began = asyncio.get_running_loop().time()
    for number in range(60):
        await sync_to_async(theatre.say)(str(number))
    assert await browser.until(62) == list(range(1, 63))
    seconds = asyncio.get_running_loop().time() - began
    frames = [frame for frame in browser.frames if "items" in frame]
    assert len(frames) <= 4 * seconds + 3
    await browser.close()


async def test_two_browsers_share_one_reader(theatre: Theatre) -> None:
    browsers = [Browser(theatre.scenario.alice.user), Browser(theatre.scenario.bob.user)]
    for browser in browsers:
        assert await browser.open()
        await browser.follow(theatre.topic)
        await browser.until(2)
    tasks = list(stream.hub()._tasks)
    assert len(tasks) == 2  # streams and heads
    await sync_to_async(theatre.say)("both")
    for browser in browsers:
        assert await browser.until(3) == [1, 2, 3]
        await browser.close()
    assert stream.hub()._tasks == []


async def test_frames_stop_after_unsubscribing(theatre: Theatre) -> None:
    browser = Browser(theatre.scenario.alice.user)
    assert await browser.open()
    await browser.follow(theatre.topic)
    await browser.until(2)
    await browser.say(json.dumps({"unsubscribe": theatre.topic}))
    await asyncio.sleep(0.3)
    await sync_to_async(theatre.say)("unheard")
    assert await browser.hears_nothing()
    await browser.close()
