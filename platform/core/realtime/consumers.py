"""The one WebSocket of the site: `/ws/`. Subscriptions come in, frames of at most four a second go out.

In:  {"subscribe": "training:<uid>", "after": 17}   {"unsubscribe": "training:<uid>"}
Out: {"topic", "from", "to", "items"}   {"topic", "head"} every five seconds   {"topic", "error": "not_found"}
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
import time
from typing import Any

from channels.generic.websocket import AsyncWebsocketConsumer

from core.realtime.stream import FRAME_SECONDS, Right, Subscription, hub
from core.realtime.topics import TopicKind, find

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 5.0
TOPICS_PER_SOCKET = 50
NOT_LOGGED_IN = 4401


class LiveConsumer(AsyncWebsocketConsumer):
    """Serve one browser: check its right to each topic, catch it up from the store, then keep it fed."""

    async def connect(self) -> None:
        self.subscriptions: dict[str, Subscription] = {}
        self.rights: dict[str, Right] = {}
        self.pump: asyncio.Task[None] | None = None
        user = self.scope.get("user")
        if user is None or not user.is_authenticated:
            await self.close(NOT_LOGGED_IN)
            return
        await self.accept()
        self.pump = asyncio.create_task(self._pump())

    async def disconnect(self, code: int) -> None:
        for topic in list(self.subscriptions):
            self._drop(topic)
        if self.pump is not None:
            self.pump.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.pump

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        try:
            message = json.loads(text_data or "")
            assert isinstance(message, dict)
        except (ValueError, AssertionError):
            await self._send({"error": "not_understood"})
            return
        if "unsubscribe" in message:
            self._drop(message["unsubscribe"])
            return
        topic, after = message.get("subscribe"), message.get("after", 0)
        if not isinstance(after, int) or isinstance(after, bool) or not 0 <= after < 2**31:
            await self._send({"error": "not_understood"})
            return
        await self._subscribe(topic, after)

    async def _subscribe(self, topic: Any, after: int) -> None:
        found = find(topic)
        right = Right(functools.partial(self._has_right, *found)) if found is not None else None
        if found is None or right is None or not await right.holds():
            await self._send({"topic": str(topic)[:80], "error": "not_found"})
            return
        if topic not in self.subscriptions and len(self.subscriptions) >= TOPICS_PER_SOCKET:
            await self._send({"topic": topic, "error": "too_many"})
            return
        self._drop(topic)
        kind, uid = found
        subscription = Subscription(topic=topic, uid=uid, kind=kind, sent=after)
        self.subscriptions[topic] = subscription
        self.rights[topic] = right
        hub().add(subscription)

    def _has_right(self, kind: TopicKind, uid: str) -> bool:
        # Whoever logged out, here or by ending the session from another device, follows nothing any more.
        session = self.scope.get("session")
        if session is not None and session.session_key and not session.exists(session.session_key):
            return False
        return kind.may_read(self.scope["user"], uid)

    def _drop(self, topic: Any) -> None:
        subscription = self.subscriptions.pop(topic, None) if isinstance(topic, str) else None
        if subscription is not None:
            self.rights.pop(topic, None)
            hub().discard(subscription)

    # -- Sending ----------------------------------------------------------------------------------------------

    async def _pump(self) -> None:
        """Send frames until the browser goes. One task sends, so that a slow browser only slows itself."""
        beat = time.monotonic()
        while True:
            began = time.monotonic()
            try:
                await self._check_again()
                for subscription in list(self.subscriptions.values()):
                    await self._feed(subscription)
                if began - beat >= HEARTBEAT_SECONDS:
                    beat = began
                    await self._beat()
            except asyncio.CancelledError:
                raise
            except Exception as error:
                # The database is away: the socket stays, the cursor too, and the next round tries again.
                log.warning("live frames are late: %s", error)
                await asyncio.sleep(1.0)
            await asyncio.sleep(max(0.0, FRAME_SECONDS - (time.monotonic() - began)))

    async def _feed(self, subscription: Subscription) -> None:
        part = await subscription.next_part()
        if part is not None and subscription is self.subscriptions.get(subscription.topic):
            await self._send(
                {"topic": subscription.topic, "from": part.first, "to": part.last, "items": part.items}
            )

    async def _check_again(self) -> None:
        for topic, right in list(self.rights.items()):
            if not await right.holds() and right is self.rights.get(topic):
                self._drop(topic)
                await self._send({"topic": topic, "error": "not_found"})

    async def _beat(self) -> None:
        for topic, subscription in list(self.subscriptions.items()):
            # Said after everything up to it was sent, so that a higher number tells the browser of a gap.
            if not subscription.behind:
                await self._send({"topic": topic, "head": subscription.sent})

    async def _send(self, message: dict[str, Any]) -> None:
        await self.send(text_data=json.dumps(message, ensure_ascii=False, separators=(",", ":")))
