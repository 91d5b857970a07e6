"""Usage by month, member and project, for those who may see it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.test import Client
from django.utils import timezone

from accounts.roles import Role
from billing.models import UsageEntry
from billing.selectors import usage_groups, usage_months
from billing.services.usage import record_usage
from tests.factories import make_member
from tests.scenario import Scenario

USAGE = "/t/atelier/settings/usage/"


def use(scenario: Scenario, job: str, seconds: float, project: str, useful: bool = True) -> None:
    record_usage(
        team=scenario.team,
        job_uid=job,
        attempt=1 if useful else 2,
        seconds=seconds,
        useful=useful,
        user=scenario.alice.user,
        project_uid="prj_1",
        project_name=project,
    )


@pytest.mark.parametrize("role", [Role.BILLING, Role.ADMIN])
def test_usage_is_told_by_month_member_and_project(scenario: Scenario, client: Client, role: Role) -> None:
    use(scenario, "trn_1", 60, "Kael")
    use(scenario, "trn_1", 30, "Kael", useful=False)
    use(scenario, "trn_2", 3600, "Mira")
    record_usage(team=scenario.charlie.team, job_uid="trn_3", attempt=1, seconds=9e5, useful=True)
    client.force_login(make_member(scenario.team, role).user)
    answer = client.get(USAGE)
    [(_month, total)] = answer.context["months"]
    assert (total.useful, total.lost, total.trainings) == (3660, 30, 2)
    assert [(row.label, row.useful) for row in answer.context["projects"]] == [("Mira", 3600), ("Kael", 60)]
    assert [(row.label, row.useful) for row in answer.context["members"]] == [("alice@example.org", 3660)]
    assert client.get(USAGE, {"month": "1999-01"}).context["projects"] == []
    assert client.get(USAGE, {"month": "nonsense"}).status_code == 200


@pytest.mark.parametrize("role", [Role.EDITOR, Role.REVIEWER, Role.VIEWER])
def test_other_roles_do_not_see_it(scenario: Scenario, client: Client, role: Role) -> None:
    client.force_login(make_member(scenario.team, role).user)
    assert client.get(USAGE).status_code == 403


@pytest.mark.parametrize("month", ["9999-12", "0000-01", "2026-13", "٢٠٢٦-11"])
def test_a_month_that_is_none_shows_this_one(scenario: Scenario, client: Client, month: str) -> None:
    client.force_login(scenario.alice.user)
    assert client.get(USAGE, {"month": month}).status_code == 200


def test_months_are_cut_alike_everywhere_whatever_the_persons_zone(scenario: Scenario) -> None:
    record_usage(team=scenario.team, job_uid="trn_a", attempt=1, seconds=60, useful=True)
    late = datetime(2026, 10, 31, 20, tzinfo=UTC)  # November in Shanghai
    UsageEntry.objects.for_team(scenario.team).update(created_at=late)
    with timezone.override("Asia/Shanghai"):
        [(month, _total)] = usage_months(scenario.alice)
        assert (month.year, month.month) == (2026, 10)
        assert [row.useful for row in usage_groups(scenario.alice, month)["member"]] == [60.0]
