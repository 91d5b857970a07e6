"""Ask the database again and again: it is one of the things that are broken."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def steadily(ask: Callable[[], T], *, seconds: float = 120) -> T:
    """Return what `ask` returns; while the database is away it is asked again, for so many seconds."""
    from django.db import InterfaceError, OperationalError, connection

    deadline = time.monotonic() + seconds
    while True:
        try:
            return ask()
        except (OperationalError, InterfaceError):
            connection.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
