"""What the tests of webhooks share: receivers on this machine, and a clock that can be moved on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.notifications.receivers import Receiver, receiving
from tests.notifications.sending import Sender
from tests.scenario import Scenario


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


@pytest.fixture
def sender(scenario: Scenario, settings: Any) -> Sender:
    settings.WEBHOOKS_ALLOW_PRIVATE = True
    settings.WEBHOOKS_ALLOW_HTTP = True
    return Sender(scenario.alice)
