"""Exports, the deletion of a team and usage over the API: for those who may, and no key of any kind."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import Team, TeamExport
from accounts.roles import Role
from accounts.tasks import make_export
from billing.services.usage import record_usage
from core.models import OutboxMessage
from tests.api.clients import API, with_key, with_token
from tests.factories import make_member
from tests.scenario import Scenario

pytestmark = pytest.mark.django_db


def post(client: APIClient, path: str, body: Any = None) -> Any:
    return client.post(f"{API}{path}", body or {}, format="json")


def test_an_owner_has_an_export_made_and_downloads_it(scenario: Scenario) -> None:
    owner = with_token(scenario.alice)
    answer = post(owner, "/exports")
    assert (answer.status_code, answer.json()["state"]) == (202, "pending")
    assert post(owner, "/exports").json()["code"] == "export_running"
    address = f"{API}/exports/{answer.json()['id']}"
    assert owner.get(f"{address}/download").status_code == 404
    message = OutboxMessage.objects.get(actor="make_export")
    make_export(message.pk, message.subject_uid)
    found = owner.get(address).json()
    assert (found["state"], found["counts"]["accounts.membership"]) == ("ready", 2)
    assert [row["id"] for row in owner.get(f"{API}/exports").json()["data"]] == [found["id"]]
    link = owner.get(found["download"])
    assert link.status_code == 302
    assert b"".join(APIClient().get(link["Location"])).startswith(b"PK")  # type: ignore[arg-type]


@pytest.mark.parametrize("role", [role for role in Role if role != Role.OWNER])
def test_only_an_owner_exports_or_deletes(scenario: Scenario, role: Role) -> None:
    client = with_token(make_member(scenario.team, role))
    for answer in (
        post(client, "/exports"),
        client.get(f"{API}/exports"),
        post(client, "/deletion_requests", {"name": scenario.team.name}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
    assert not TeamExport.objects.for_team(scenario.team).exists()
    assert Team.objects.get(pk=scenario.team.pk).deleted_at is None


def test_no_key_exports_or_deletes(scenario: Scenario) -> None:
    key = with_key(scenario.alice)
    assert post(key, "/exports").status_code == 403
    assert post(key, "/deletion_requests", {"name": scenario.team.name}).status_code == 403


def test_a_team_is_deleted_by_its_name_and_closed_at_once(scenario: Scenario) -> None:
    owner = with_token(scenario.alice)
    wrong = post(owner, "/deletion_requests", {"name": "Another"})
    assert (wrong.status_code, wrong.json()["code"]) == (422, "name_wrong")
    answer = post(owner, "/deletion_requests", {"name": scenario.team.name})
    assert (answer.status_code, answer.json()["team"]) == (202, scenario.team.uid)
    assert answer.json()["erased_after"] > answer.json()["deleted_at"]
    assert owner.get(f"{API}/me").status_code == 401


def test_usage_is_summed_by_month_member_and_project(scenario: Scenario) -> None:
    for attempt, (useful, person) in enumerate(
        [(True, scenario.alice), (False, scenario.alice), (True, scenario.bob)]
    ):
        record_usage(
            team=scenario.team,
            job_uid=f"trn_{person.user.pk}",
            attempt=attempt,
            seconds=10.0,
            useful=useful,
            user=person.user,
            project_name="Lamps",
        )
    client = with_key(scenario.alice)
    months = client.get(f"{API}/usage").json()
    assert months["group_by"] == "month"
    (month,) = months["data"]
    assert {**month, "group": ""} == {
        "group": "",
        "useful_seconds": 20.0,
        "lost_seconds": 10.0,
        "trainings": 2,
    }
    members = client.get(f"{API}/usage?group_by=member&month={month['group']}").json()["data"]
    assert {row["group"]: row["useful_seconds"] for row in members} == {
        "alice@example.org": 10.0,
        "bob@example.org": 10.0,
    }
    assert client.get(f"{API}/usage?group_by=project&month=2001-01").json()["data"] == []
    for query in ("group_by=year", "month=2026-13", "month=2026", "group_by=member&month=٢٠٢٦-11"):
        assert client.get(f"{API}/usage?{query}").status_code == 422
    assert with_key(make_member(scenario.team, Role.EDITOR)).get(f"{API}/usage").status_code == 403


def test_a_list_of_exports_costs_the_same_for_few_and_for_many(scenario: Scenario) -> None:
    owner = with_token(scenario.alice)
    counts = []
    for _round in range(2):
        for _each in range(4):
            TeamExport.objects.create(
                team=scenario.team, created_by=scenario.alice.user, expires_at=timezone.now()
            )
        with CaptureQueriesContext(connection) as queries:
            assert owner.get(f"{API}/exports").status_code == 200
        counts.append(len(queries))
    assert counts[0] == counts[1]
