"""What every test with a database may use. The engine's tests need none of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.utils import translation

from tests.api import contract
from tests.scenario import Scenario, make_scenario


@pytest.fixture
def scenario(db: None) -> Scenario:
    return make_scenario()


@pytest.fixture(autouse=True)
def _english() -> Iterator[None]:
    """Begin every test in English: a request leaves its language active in the thread that served it."""
    with translation.override("en"):
        yield


@pytest.fixture(autouse=True)
def _contract() -> Iterator[None]:
    """Fail a test that got an answer of the API which docs/openapi.yaml does not allow."""
    contract.mismatches.clear()
    yield
    assert contract.mismatches == []
