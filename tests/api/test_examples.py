"""The examples in docs/openapi.yaml are sent, with ids of things that are there, and do what they show."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest

from accounts.services.tokens import issue_tokens
from tests.api import contract
from tests.api.clients import with_key, with_token
from tests.billing.till import open_till, subscribe
from tests.core.test_matrix import UID_OF
from tests.scenario import Scenario
from tests.world import World, make_world

_BY_PREFIX = {
    "prj": lambda world: world.project.uid,
    "ds": lambda world: world.dataset.uid,
    "dsv": lambda world: world.version.uid,
    "img": lambda world: world.item.uid,
    "mdv": lambda world: world.model_version.uid,
}


def examples() -> Iterator[tuple[str, str, str, Any]]:
    """Yield (method, path, name, body) of each example of a request."""
    for path, operations in contract.document()["paths"].items():
        for method, operation in operations.items():
            content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            for name, example in content.get("examples", {}).items():
                yield method, path, name, example["value"]


FOUND = list(examples())


def test_every_body_has_an_example() -> None:
    without = [
        f"{method} {path}"
        for path, operations in contract.document()["paths"].items()
        for method, operation in operations.items()
        if "application/json" in operation.get("requestBody", {}).get("content", {})
        and (method, path) not in {(each[0], each[1]) for each in FOUND}
    ]
    assert without == []


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("method", "path", "name", "body"), FOUND, ids=[f"{m} {p}" for m, p, _n, _b in FOUND]
)
def test_an_example_does_what_it_shows(
    scenario: Scenario, settings: Any, method: str, path: str, name: str, body: Any
) -> None:
    world = make_world(scenario.alice, "mine")
    if "refresh_token" in body:
        body = {"refresh_token": issue_tokens(actor=scenario.alice).refresh}
    address = re.sub(r"([\w-]+)/\{uid\}", lambda match: f"{match[1]}/{UID_OF[match[1]](world)}", path)
    if "/retry" in path or "/clone" in path:
        assert world.job.is_finished
    # Deleting the team and spending its money take a person.
    by_person = any(words in path for words in ("/deletion_requests", "/billing/", "/spend_limit"))
    client = (with_token if by_person else with_key)(scenario.alice)
    with open_till(settings) if "/billing/" in path else nullcontext() as till:
        if till is not None and "/seats" in path:
            subscribe(scenario, till, "team")
        answer = getattr(client, method)(
            address, _placed(body, world), format="json", headers={"Idempotency-Key": "k"}
        )
    assert answer.status_code < 300, answer.content


def _placed(body: Any, world: World) -> Any:
    def uid(match: re.Match[str]) -> str:
        return str(_BY_PREFIX[match[1]](world)) if match[1] in _BY_PREFIX else match[0]

    return json.loads(re.sub(r"([a-z]+)_[0-9a-z]{26}", uid, json.dumps(body)))
