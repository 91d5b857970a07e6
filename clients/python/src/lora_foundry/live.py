"""Follow a training live: Server-Sent Events, taken up again where they broke off."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import urllib3

from lora_foundry.errors import ConnectionFailed, Problem
from lora_foundry.transport import Transport, pause

_READ_BYTES = 64 * 1024


def events(transport: Transport, training: str, *, after: int, every: float) -> Iterator[dict[str, Any]]:
    """Yield each event once and in order, until the training has ended; wait `every` seconds between two streams.

    Raise a Problem, or ConnectionFailed after as many tries in a row as other requests get.
    """
    attempt = 0
    while True:
        wait = every
        try:
            address = transport.address(f"/trainings/{training}/stream", {"after": after})
            answer = transport.stream(address, headers={"Accept": "text/event-stream"})
            try:
                if answer.status == 204:  # it has ended, and nothing comes after `after`
                    return
                for event in _read(answer):
                    if event["seq"] > after:
                        attempt, after = 0, event["seq"]
                        yield event
            finally:
                answer.close()
        except urllib3.exceptions.HTTPError as error:
            if attempt == transport.retries:
                raise ConnectionFailed(f"{training}: {error}") from error
            wait, attempt = pause(attempt, None), attempt + 1
        except Problem as problem:
            if attempt == transport.retries or not problem.retryable:
                raise
            wait, attempt = pause(attempt, problem.retry_after), attempt + 1
        transport.sleep(wait)


def _read(answer: urllib3.BaseHTTPResponse) -> Iterator[dict[str, Any]]:
    """Yield the events of one stream; of what it breaks off in nothing is given."""
    rest = b""
    # What has arrived, and not so many bytes: the rest may take minutes to come.
    while piece := answer.read1(_READ_BYTES):
        *blocks, rest = (rest + piece).split(b"\n\n")
        for block in blocks:
            data = [line[6:] for line in block.split(b"\n") if line.startswith(b"data: ")]
            if data:
                yield json.loads(b"\n".join(data))
