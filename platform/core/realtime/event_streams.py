"""Server-Sent Events: what goes over the WebSocket, for programs that speak plain HTTP.

A view answers as every view does: it finds the caller, checks rights, counts, and may refuse. With `follow` it hands
over what is to be followed, and only when Django is through with the request does the stream begin here. So an open
stream has neither Django's thread nor a database connection; both would be held for as long as the client stays.

Format: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.http import HttpRequest, HttpResponse

from core.api.errors import refused
from core.realtime.stream import FRAME_ITEMS, FRAME_SECONDS, Right, Subscription, hub
from core.realtime.topics import Items, find

log = logging.getLogger(__name__)

CONTENT_TYPE = "text/event-stream"
# Proxies close what is silent for half a minute or more.
KEEP_ALIVE_SECONDS = 10.0
# A client that takes nothing for so long is gone, whatever its connection says.
SEND_SECONDS = 60.0
# Streams of one person in one team in one web process; a browser's socket carries as many topics.
STREAMS_EACH = 50
# After a stream ended, clients of the standard come again so soon, with the last id they got.
RETRY_MILLISECONDS = 2000
_HELLO = f"retry: {RETRY_MILLISECONDS}\n\n".encode()
_KEEP_ALIVE = b":\n\n"
_PLACE = "lf.event_stream"

Message = Mapping[str, Any]
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Stream:
    """Hold what a client follows: a topic from behind `after`, as long as `may_read` (asked in a thread) holds.

    `subject` is whose streams are counted together; `has_ended` says that nothing will be added to the topic.
    """

    topic: str
    after: int
    subject: str
    has_ended: bool
    may_read: Callable[[], bool]


@dataclass(slots=True)
class _Place:
    """Hold where a view leaves its stream for `EventStreams`, and how many each subject has open."""

    open: Counter[str] = field(default_factory=Counter)
    stream: Stream | None = None


def follow(request: HttpRequest, stream: Stream) -> HttpResponse:
    """Return the answer that becomes a stream; raise DomainError (429) where the subject has too many open.

    A server without `EventStreams` gives the next events and ends; a client of the standard comes again for more.
    """
    place: _Place | None = getattr(request, "scope", {}).get(_PLACE)
    content = b""
    if place is not None:
        if place.open[stream.subject] >= STREAMS_EACH:
            raise refused(
                "too_many_streams",
                f"{STREAMS_EACH} streams are open. Close one first.",
                429,
                limit=STREAMS_EACH,
                retry_after=RETRY_MILLISECONDS // 1000,
            )
        place.stream = stream
    elif (found := find(stream.topic)) is not None:
        kind, uid = found
        content = _HELLO + _written(kind.events_after(uid, stream.after, FRAME_ITEMS))
    response = HttpResponse(content, content_type=CONTENT_TYPE)
    response["Cache-Control"] = "no-store, no-transform"
    # nginx keeps what it gets until it has a buffer full of it, unless it is told.
    response["X-Accel-Buffering"] = "no"
    return response


def last_event_id(text: str, otherwise: int) -> int:
    """Return the seq of a `Last-Event-ID`, `otherwise` where there is none; raise DomainError (400) for nonsense."""
    if not text:
        return otherwise
    if not (text.isascii() and text.isdecimal() and len(text) <= 9):
        raise refused("last_event_id_invalid", "Last-Event-ID is the id of the last event that came.", 400)
    return int(text)


class EventStreams:
    """Carry on with the answers that views turned into streams with `follow`."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.open: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "GET":
            await self.app(scope, receive, send)
            return
        scope[_PLACE] = place = _Place(self.open)

        async def begin(message: Message) -> None:
            if place.stream is None:
                await send(message)
            elif message["type"] == "http.response.start":
                headers = [each for each in message["headers"] if each[0].lower() != b"content-length"]
                await send({**message, "headers": headers})
            # Else it is the end of the answer, which comes later.

        await self.app(scope, receive, begin)
        if place.stream is not None:
            await self._carry_on(place.stream, receive, send)

    async def _carry_on(self, stream: Stream, receive: Receive, send: Send) -> None:
        self.open[stream.subject] += 1
        pump = asyncio.create_task(_pump(stream, send))
        gone = asyncio.create_task(_until_gone(receive))
        try:
            await asyncio.wait({pump, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (pump, gone):
                task.cancel()
            ended, _gone = await asyncio.gather(pump, gone, return_exceptions=True)
            self.open[stream.subject] -= 1
            if not self.open[stream.subject]:
                del self.open[stream.subject]
        if isinstance(ended, Exception):
            # The connection is cut off, so that the client sees that this was not the end.
            raise ended
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _pump(stream: Stream, send: Send) -> None:
    """Send what is stored and then what comes, until the last item, the loss of the right, or a cancel."""

    async def give(content: bytes) -> None:
        async with asyncio.timeout(SEND_SECONDS):
            await send({"type": "http.response.body", "body": content, "more_body": True})

    found = find(stream.topic)
    assert found is not None, stream.topic
    kind, uid = found
    subscription = Subscription(topic=stream.topic, uid=uid, kind=kind, sent=stream.after)
    right = Right(stream.may_read)
    hub().add(subscription)
    try:
        await give(_HELLO)
        said = time.monotonic()
        while True:
            began = time.monotonic()
            items: Items = []
            try:
                # Asked before anything is read: a right that was lost in the meantime shows nothing more.
                if not await right.holds():
                    return
                part = await subscription.next_part()
                items = part.items if part is not None else []
                is_done = stream.has_ended and not subscription.behind
            except Exception as error:
                # The database is away: the stream stays, its cursor too, and the next round tries again.
                log.warning("an event stream is late: %s", error)
                await asyncio.sleep(1.0)
                is_done = False
            if items:
                await give(_written(items))
                said = time.monotonic()
            elif time.monotonic() - said >= KEEP_ALIVE_SECONDS:
                await give(_KEEP_ALIVE)
                said = time.monotonic()
            if is_done or any(kind.is_last(item) for item in items):
                return
            await asyncio.sleep(max(0.0, FRAME_SECONDS - (time.monotonic() - began)))
    finally:
        hub().discard(subscription)


def _written(items: Items) -> bytes:
    """Return items in the format of the standard; JSON has no line breaks of its own."""
    return "".join(
        f"id: {item['seq']}\nevent: {item['type']}\n"
        f"data: {json.dumps(item, ensure_ascii=False, separators=(',', ':'))}\n\n"
        for item in items
    ).encode()
