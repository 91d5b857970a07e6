"""What the tests of the server use: one whose time stands still, and a shop at it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.stripe_server import StripeServer
from tests.stripe_server.shop import JAN_1, Shop


@pytest.fixture
def server() -> Iterator[StripeServer]:
    with StripeServer(now=JAN_1, retry_delay=0) as server:
        yield server


@pytest.fixture
def shop(server: StripeServer) -> Shop:
    return Shop(server)
