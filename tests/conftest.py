"""What every test with a database may use. The engine's tests need none of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import apps
from django.db.models.signals import post_migrate
from django.utils import translation

from billing.models import Plan, TopUp
from billing.plans import SEEDS, TOP_UPS
from tests.api import contract
from tests.scenario import Scenario, make_scenario


def _put_plans_back(**_told: Any) -> None:
    """Make plans and top-ups again, which migrations made, after a test that emptied every table."""
    for seed in SEEDS:
        Plan.objects.get_or_create(key=seed["key"], defaults=seed)
    for values in TOP_UPS:
        TopUp.objects.get_or_create(key=values["key"], defaults=values)


@pytest.fixture(scope="session", autouse=True)
def _plans() -> None:
    post_migrate.connect(_put_plans_back, sender=apps.get_app_config("billing"), dispatch_uid="plans")


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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the slow files, so that the processes end together (`make test` keeps this order)."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
