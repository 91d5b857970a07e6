"""Rate limits: so many requests per window, counted in Valkey by one script; without Valkey nobody is limited.

Sources: draft-ietf-httpapi-ratelimit-headers-09 (`RateLimit-Policy: "api";q=600;w=60`, `RateLimit: "api";r=599;t=60`).
"""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass
from functools import cache
from typing import Any

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from core.api.errors import refused
from core.errors import DomainError

log = logging.getLogger(__name__)

# Add to the counter and give it and what is left of its window, in one step: two requests at once count as two.
_TAKE = """
local count = redis.call('INCRBY', KEYS[1], ARGV[1])
local left = redis.call('PTTL', KEYS[1])
if left < 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
    left = tonumber(ARGV[2])
end
return {count, left}
"""
# After a failure Valkey is not asked for so long, so that its absence costs one time-out and not one per request.
_PAUSE_SECONDS = 5.0
_PREFIX = "lf:rate:"


@dataclass(frozen=True, slots=True)
class Limit:
    """Allow `quota` requests in `window` seconds."""

    quota: int
    window: int


@dataclass(frozen=True, slots=True)
class Taken:
    """Hold what a request found: the bucket's limit, how many requests are left, and when it is full again."""

    bucket: str
    limit: Limit
    count: int
    reset: int

    @property
    def is_allowed(self) -> bool:
        return self.count <= self.limit.quota

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers of the draft."""
        left = max(0, self.limit.quota - self.count)
        return {
            "RateLimit-Policy": f'"{self.bucket}";q={self.limit.quota};w={self.limit.window}',
            "RateLimit": f'"{self.bucket}";r={left};t={self.reset}',
        }

    def refusal(self) -> DomainError:
        """Return the error of a request too many."""
        return refused(
            "rate_limited",
            f"Too many requests. Try again in {self.reset} s.",
            429,
            bucket=self.bucket,
            retry_after=self.reset,
        )


def limits() -> dict[str, Limit]:
    """Return every bucket's limit from the settings (`"600/60"`: requests per seconds)."""
    return {name: Limit(*map(int, text.split("/"))) for name, text in settings.RATE_LIMITS.items()}


def take(bucket: str, subject: str, *, cost: int = 1) -> Taken | None:
    """Count one request of `subject` in `bucket`; None where it has no limit or Valkey does not answer."""
    limit = limits().get(bucket)
    if limit is None or limit.quota <= 0:
        return None
    answer = _store().take(f"{_PREFIX}{bucket}:{subject}", limit.window, cost)
    if answer is None:
        return None
    count, left = answer
    return Taken(bucket, limit, count, max(1, math.ceil(left / 1000)))


class _Store:
    """One connection pool, and a pause after each failure."""

    def __init__(self, url: str) -> None:
        self.client: Any = redis.Redis.from_url(
            url, socket_timeout=0.25, socket_connect_timeout=0.25, retry=Retry(NoBackoff(), 0)
        )
        self.script = self.client.register_script(_TAKE)
        self.away_until = 0.0

    def take(self, key: str, window: int, cost: int) -> tuple[int, int] | None:
        if time.monotonic() < self.away_until:
            return None
        try:
            count, left = self.script(keys=[key], args=[cost, window * 1000])
        except redis.RedisError as error:
            self.away_until = time.monotonic() + _PAUSE_SECONDS
            log.warning("Requests are not counted, Valkey does not answer: %s", error)
            return None
        return int(count), int(left)


@cache
def _store_at(url: str) -> _Store:
    return _Store(url)


def _store() -> _Store:
    return _store_at(settings.REDIS_URL)
