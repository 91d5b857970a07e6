"""What the tests of money share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.billing.till import Till, open_till


@pytest.fixture
def till(settings: Any, db: None) -> Iterator[Till]:
    with open_till(settings) as opened:
        yield opened
