"""What every test with a database may use. The engine's tests need none of it."""

from __future__ import annotations

import pytest

from tests.scenario import Scenario, make_scenario


@pytest.fixture
def scenario(db: None) -> Scenario:
    return make_scenario()
