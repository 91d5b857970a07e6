"""Generated requests with every kind of credential: no 5xx, no undocumented status, no answer off its schema."""

from __future__ import annotations

import os

import pytest
from django.core.wsgi import get_wsgi_application

from tests.api.fuzzing import Fuzzer, credentials
from tests.scenario import Scenario
from tests.world import make_world

# Valid requests for each operation and credential, and as many broken ones; `python -m bench.fuzz` asks for more.
EXAMPLES = int(os.environ.get("LF_FUZZ_EXAMPLES", "2"))
SEED = int(os.environ.get("LF_FUZZ_SEED", "1"))


@pytest.mark.slow
@pytest.mark.django_db
def test_no_generated_request_gets_an_answer_that_is_not_documented(scenario: Scenario) -> None:
    world, theirs = make_world(scenario.alice, "mine"), make_world(scenario.charlie, "theirs")
    fuzzer = Fuzzer(get_wsgi_application(), world, seed=SEED)
    report = fuzzer.run(credentials(world, theirs), examples=EXAMPLES)
    statuses = dict(sorted(report.statuses.items()))
    print(f"\n{report.cases} cases over {len(report.operations)} operations; statuses {statuses}")
    for name, text in report.failures.items():
        print(f"FAIL {name}\n{text}\n")
    assert list(report.failures) == []
    assert report.operations == {operation.label for operation in fuzzer.operations()}
    assert report.cases > 1000
    assert {200, 201, 204, 400, 401, 403, 404, 409, 422} <= set(report.statuses)
