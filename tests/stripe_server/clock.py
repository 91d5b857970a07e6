"""Tell the server's time, and count billing periods in calendar months of UTC as Stripe does."""

from __future__ import annotations

import calendar
import time
from datetime import UTC, datetime, timedelta

DAY = 86_400
HOUR = 3_600


class Clock:
    """Tick with the machine, shifted by what was skipped; or stand still where a test says so."""

    def __init__(self, frozen: int | None = None) -> None:
        self._frozen = frozen
        self._shift = 0
        self._pinned: int | None = None

    def now(self) -> int:
        """Return unix seconds."""
        if self._pinned is not None:
            return self._pinned
        if self._frozen is not None:
            return self._frozen
        return int(time.time()) + self._shift

    def pin(self, when: int) -> None:
        """Stand at `when` while what is due then is carried out, so that it all bears one time."""
        self._pinned = when

    def unpin(self) -> None:
        self._pinned = None

    def move_to(self, when: int) -> None:
        """Go on from `when`."""
        self._pinned = None
        if self._frozen is not None:
            self._frozen = when
        else:
            self._shift = when - int(time.time())

    def freeze(self) -> None:
        """Stop ticking, as time under a Stripe test clock does."""
        self._frozen = self.now()


def plus_interval(start: int, interval: str, count: int) -> int:
    """Return `start` + count intervals: a month later is the same day, or the month's last (31 Jan -> 28 Feb)."""
    moment = datetime.fromtimestamp(start, UTC)
    if interval in ("day", "week"):
        return int((moment + timedelta(days=count * (7 if interval == "week" else 1))).timestamp())
    months = moment.month - 1 + count * (12 if interval == "year" else 1)
    year, month = moment.year + months // 12, months % 12 + 1
    day = min(moment.day, calendar.monthrange(year, month)[1])
    return int(moment.replace(year=year, month=month, day=day).timestamp())


def next_boundary(anchor: int, recurring: dict[str, object], after: int) -> int:
    """Return the first end of a period later than `after`, counted from the anchor.

    Counting from the anchor and not from the last end keeps 31 Jan -> 28 Feb -> 31 Mar.
    """
    interval, count = str(recurring["interval"]), int(str(recurring["interval_count"]))
    periods = 1
    while (end := plus_interval(anchor, interval, count * periods)) <= after:
        periods += 1
    return end


def written(when: int) -> str:
    return datetime.fromtimestamp(when, UTC).strftime("%d %b %Y")
