"""One reader of Redis streams for each web process; it feeds every subscription there.

Subscriptions hold a cursor into the store. What the stream brings in order is passed on; a gap, an overflow or a
silent stream sends the subscription back to the store. So a lost Redis costs delay, never an event.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import redis.asyncio
from channels.db import database_sync_to_async
from django.conf import settings
from redis.exceptions import RedisError

from core.realtime.access import ACCESS_KEY
from core.realtime.publish import stream_key
from core.realtime.topics import Items, TopicKind, find

log = logging.getLogger(__name__)

# So many items may wait for one browser; beyond that it is sent back to the store.
WAITING_ITEMS = 2000
BLOCK_MILLISECONDS = 500
HEADS_EVERY = 5.0
# While Redis is away the store is asked more often.
HEADS_EVERY_WITHOUT_STREAM = 1.0
_LONGEST_PAUSE = 5.0
# How often a client gets what is new, and how much of it at once.
FRAME_SECONDS = 0.25
FRAME_ITEMS = 500
RECHECK_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Part:
    """Hold what a client gets next. It speaks for all of `first`..`last`: what it leaves out is kept no longer."""

    first: int
    last: int
    items: Items


@dataclass(eq=False)
class Subscription:
    """Follow one topic for one browser. `sent` is the last seq it got; `tail` the last one that waits for it."""

    topic: str
    uid: str
    kind: TopicKind
    sent: int
    tail: int = 0
    waiting: list[dict[str, Any]] = field(default_factory=list)
    behind: bool = True
    missed: bool = False
    head: int | None = None

    def feed(self, first: int, last: int, items: Items) -> None:
        """Take what the stream brought: keep it if it follows on, else note that the store must be read."""
        if self.behind:
            self.missed = True
        elif first > self.tail + 1 or len(self.waiting) + len(items) > WAITING_ITEMS:
            self.fall_behind()
        elif last > self.tail:
            self.waiting.extend(item for item in items if item["seq"] > self.tail)
            self.tail = last

    def fall_behind(self) -> None:
        """Have the store read from the last item that was sent."""
        self.waiting.clear()
        self.behind, self.missed = True, True

    def take(self) -> Items:
        """Return what waits, in order, and count it as sent."""
        items, self.waiting = self.waiting, []
        self.sent = max(self.sent, self.tail)
        return items

    async def next_part(self) -> Part | None:
        """Return what comes next, from the store or from the stream; None if there is nothing new."""
        before = self.sent
        items = await self.read_store(FRAME_ITEMS) if self.behind else self.take()
        return Part(before + 1, self.sent, items) if self.sent > before else None

    async def read_store(self, limit: int) -> Items:
        """Return the next page of the store, and notice when the browser has caught up."""
        self.missed = False
        # Everything up to a head was stored before the head was told: what the store has not is kept no longer.
        head = self.head or 0
        items: Items = await database_sync_to_async(self.kind.events_after)(self.uid, self.sent, limit)
        if items:
            self.sent = int(items[-1]["seq"])
        if len(items) < limit:
            self.sent = max(self.sent, head)
            if not self.missed:
                self.behind, self.tail = False, self.sent
        return items

    def tell_head(self, head: int) -> None:
        """Take the store's last seq; if the stream did not bring that far, go to the store."""
        self.head = head
        if not self.behind and head > self.tail:
            self.fall_behind()


class Right:
    """Ask now and then whether a topic may still be read: at once when somebody's rights changed.

    `ask` runs in a thread and may query. One that fails with an error is asked again at the next call.
    """

    def __init__(self, ask: Callable[[], bool]) -> None:
        self._ask = ask
        self._version: int | None = None
        self._asked_at = 0.0

    async def holds(self) -> bool:
        """Tell whether the topic may be read, as far as is known; the first time and when it is time it is asked."""
        version, now = hub().access_version, time.monotonic()
        if version == self._version and now - self._asked_at < RECHECK_SECONDS:
            return True
        answer: bool = await database_sync_to_async(self._ask)()
        self._version, self._asked_at = version, now
        return answer


class Hub:
    """Read the streams of all topics that are watched in this process and hand them to their subscriptions."""

    def __init__(self) -> None:
        self._watched: dict[str, set[Subscription]] = defaultdict(set)
        self._places: dict[str, str] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._streaming = False
        # Rises when somebody's rights changed; consumers then ask again whether their topics may be read.
        self.access_version = 0
        self._access_place = ""

    def add(self, subscription: Subscription) -> None:
        """Begin to feed a subscription."""
        self._watched[subscription.topic].add(subscription)
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._read_streams()), asyncio.create_task(self._read_heads())]

    def discard(self, subscription: Subscription) -> None:
        """Feed it no longer; the last one to go ends the reader."""
        followers = self._watched.get(subscription.topic)
        if followers is None:
            return
        followers.discard(subscription)
        if not followers:
            del self._watched[subscription.topic]
            self._places.pop(subscription.topic, None)
        if not self._watched:
            for task in self._tasks:
                task.cancel()
            self._tasks = []
            self._streaming = False

    async def _read_streams(self) -> None:
        pause = 0.5
        while True:
            client: redis.asyncio.Redis = redis.asyncio.Redis.from_url(
                settings.REDIS_URL, socket_timeout=None, socket_connect_timeout=2, decode_responses=True
            )
            try:
                while True:
                    await self._read_once(client)
                    self._streaming, pause = True, 0.5
            except (RedisError, OSError) as error:
                if self._streaming:
                    log.warning("the live stream is lost, the store is read instead: %s", error)
                self._streaming = False
                # A new Redis may number its entries anew.
                self._places.clear()
                self._access_place = ""
                await asyncio.sleep(pause)
                pause = min(_LONGEST_PAUSE, pause * 2)
            finally:
                await client.aclose()

    async def _read_once(self, client: redis.asyncio.Redis) -> None:
        if not self._access_place:
            newest: Any = await client.xrevrange(ACCESS_KEY, count=1)
            self._access_place = newest[0][0] if newest else "0"
            # What changed while nobody listened is not known.
            self.access_version += 1
        for topic in [topic for topic in self._watched if topic not in self._places]:
            newest = await client.xrevrange(stream_key(topic), count=1)
            self._places[topic] = newest[0][0] if newest else "0"
            # What came between the subscription and now is in the store.
            for subscription in list(self._watched.get(topic, ())):
                subscription.fall_behind()
        topics = {stream_key(topic): topic for topic in self._places if topic in self._watched}
        if not topics:
            await asyncio.sleep(BLOCK_MILLISECONDS / 1000)
            return
        places: dict[Any, Any] = {key: self._places[topic] for key, topic in topics.items()}
        places[ACCESS_KEY] = self._access_place
        found: Any = await client.xread(places, block=BLOCK_MILLISECONDS, count=200)
        for key, entries in found or []:
            if key == ACCESS_KEY:
                self._access_place = entries[-1][0]
                self.access_version += 1
                continue
            for place, entry in entries:
                self._hand_out(topics[key], place, entry)

    def _hand_out(self, topic: str, place: str, entry: dict[str, str]) -> None:
        if topic in self._places:
            self._places[topic] = place
        items = json.loads(entry["items"])
        for subscription in self._watched.get(topic, ()):
            subscription.feed(int(entry["from"]), int(entry["to"]), items)

    async def _read_heads(self) -> None:
        while True:
            await asyncio.sleep(HEADS_EVERY if self._streaming else HEADS_EVERY_WITHOUT_STREAM)
            try:
                await self._tell_heads()
            except Exception as error:
                # The database is away; browsers keep their connection and catch up later.
                log.warning("the heads of the live topics could not be read: %s", error)

    async def _tell_heads(self) -> None:
        by_kind: dict[TopicKind, dict[str, str]] = defaultdict(dict)
        for topic in list(self._watched):
            found = find(topic)
            if found is not None:
                by_kind[found[0]][found[1]] = topic
        for kind, topics in by_kind.items():
            heads = await database_sync_to_async(kind.heads)(list(topics))
            for uid, head in heads.items():
                for subscription in self._watched.get(topics[uid], ()):
                    subscription.tell_head(head)


_hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = WeakKeyDictionary()


def hub() -> Hub:
    """Return the hub of the running event loop."""
    return _hubs.setdefault(asyncio.get_running_loop(), Hub())
