"""What no honest browser sends: it is refused with a reason, never answered with a fault."""

from __future__ import annotations

import json
from typing import Any

import pytest

from core.errors import DomainError
from tests.scenario import Scenario
from tests.training.conftest import client_of as browser_of
from tests.training.queueing import Bench
from tests.training.test_api import API, client_of, order
from tests.training.test_create_page import NEW, _form
from training.models import TrainingJob
from training.services.jobs import create_job

AUTHOR = "Author holds a character that cannot be stored. Remove it."
PROMPTS = "Sample prompts: at most 16 lines of 1000 characters."
NESTED: dict[str, Any] = {}
for _ in range(100):
    NESTED = {"a": NESTED}

BAD_SETTINGS: list[tuple[dict[str, Any], str, str]] = [
    ({"output.author": "a\x00b"}, "settings/output/author", AUTHOR),
    ({"output.author": "a\ud800b"}, "settings/output/author", AUTHOR),
    (
        {"captions.template": "{caption}" + "a" * 1000},
        "settings/captions/template",
        "Caption template may have at most 1000 characters.",
    ),
    ({"/sampling/prompts": ["a" * 500] * 3000}, "settings/sampling/prompts", PROMPTS),
    ({"sampling": {"prompts": ["a"] * 17}}, "settings/sampling/prompts", PROMPTS),
    ({"sampling": {"prompts": ["a" * 5000]}}, "settings/sampling/prompts", PROMPTS),
    ({"a\x00\ud800": 1}, "settings/a��", "There is no setting /a��."),
    ({"training.steps": 10**400}, "settings/training/steps", "Steps must be between 1 and 1000000."),
    (
        {"training.batch_size": 10**20},
        "settings/training/batch_size",
        "Batch size must be between 1 and 1024.",
    ),
    (NESTED, "settings/a", "There is no setting /a."),
]


@pytest.mark.parametrize(("settings", "pointer", "detail"), BAD_SETTINGS)
def test_settings_that_cannot_be_kept_are_refused_where_they_stand(
    scenario: Scenario, settings: dict[str, Any], pointer: str, detail: str
) -> None:
    bench = Bench(scenario.alice)
    with pytest.raises(DomainError) as refused:
        create_job(settings=settings, **parts(bench))
    assert refused.value.code == "invalid_settings"
    told = [(row["pointer"].lstrip("/"), row["detail"]) for row in refused.value.extra["errors"]]
    assert (pointer, detail) in told
    assert not TrainingJob.objects.for_team(scenario.team).exists()


@pytest.mark.parametrize("settings", [each[0] for each in BAD_SETTINGS])
def test_program_that_sends_them_is_answered(scenario: Scenario, settings: dict[str, Any]) -> None:
    bench = Bench(scenario.alice)
    # Escaped, as any JSON writer may: the test client's own cannot write half a character.
    body = json.dumps(order(bench, settings=settings))
    headers = {"Idempotency-Key": "k"}
    answer = client_of(scenario.alice).post(
        f"{API}/trainings", body, content_type="application/json", headers=headers
    )
    assert answer.status_code in (400, 422)
    assert answer.json()["code"] in ("invalid_settings", "parse_error", "validation_failed")
    assert not TrainingJob.objects.for_team(scenario.team).exists()


def parts(bench: Bench) -> dict[str, Any]:
    """What `create_job` needs."""
    return {
        "actor": bench.actor,
        "dataset_version": bench.version,
        "foundation_model": bench.base,
        "template": "style",
        "name": "Ink",
    }


@pytest.mark.parametrize("field", ["trigger", "name", "prompts", "source", "base_model", "form_token"])
@pytest.mark.parametrize("action", ["start", "update"])
def test_null_character_in_the_form_starts_nothing(scenario: Scenario, field: str, action: str) -> None:
    bench = Bench(scenario.alice)
    data = _form(scenario, action=action)
    data[field] += "\x00"
    answer = browser_of(scenario.alice).post(NEW, data)
    assert answer.status_code == (422 if action == "start" else 200)
    assert bench.actor.team == scenario.team
    assert not TrainingJob.objects.for_team(scenario.team).exists()


def test_token_of_any_form_makes_one_job(scenario: Scenario) -> None:
    values = parts(Bench(scenario.alice))
    token = "\x00" + "t" * 300
    first, again = create_job(form_token=token, **values), create_job(form_token=token, **values)
    other = create_job(form_token=token + "x", **values)
    assert first.pk == again.pk != other.pk


@pytest.mark.parametrize("after", ["9" * 5000, "9" * 10, "-1", "٣", "²", "", "x"])
def test_sequence_number_that_is_none_is_answered(scenario: Scenario, after: str) -> None:
    job = Bench(scenario.alice).job()
    page = browser_of(scenario.alice).get(f"/t/atelier/trainings/{job.uid}/events/", {"after": after})
    assert page.status_code == 200
    assert [item["seq"] for item in page.json()["items"]] == [1]
    program = client_of(scenario.alice).get(f"{API}/trainings/{job.uid}/events", {"after": after})
    assert program.status_code in (200, 400, 422)
