"""The audit log: every change with who, before and after; read by those who may; altered by nobody."""

from __future__ import annotations

import pytest
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import AuditEvent
from accounts.roles import Role
from accounts.services.audit import audit
from accounts.services.memberships import change_role
from tests.factories import make_member
from tests.scenario import Scenario

LOG = "/t/atelier/settings/audit/"


def test_an_admin_reads_who_changed_what_from_what_to_what(scenario: Scenario, client: Client) -> None:
    change_role(actor=scenario.alice, user_uid=scenario.bob.user.uid, role=Role.EDITOR)
    client.force_login(make_member(scenario.team, Role.ADMIN).user)
    page = client.get(LOG).content.decode()
    for words in ("Alice", "member.role_changed", "viewer", "editor"):
        assert words in page


@pytest.mark.parametrize("role", [Role.EDITOR, Role.REVIEWER, Role.VIEWER, Role.BILLING])
def test_lower_roles_do_not_read_it(scenario: Scenario, client: Client, role: Role) -> None:
    client.force_login(make_member(scenario.team, role).user)
    assert client.get(LOG).status_code == 403


def test_it_is_narrowed_by_person_and_words_and_goes_on_by_key(scenario: Scenario, client: Client) -> None:
    for number in range(60):
        audit(scenario.alice, "team.changed", scenario.team, after=f"number {number}")
    audit(scenario.bob, "api_key.created", scenario.team)
    client.force_login(scenario.alice.user)
    first = client.get(LOG)
    assert "api_key.created" in first.content.decode()
    older = client.get(LOG, {"before": first.context["older"]}).content.decode()
    assert "number 0" in older
    assert "number 59" not in older
    assert "team.changed" not in client.get(LOG, {"person": scenario.bob.user.uid}).content.decode()
    assert "number 5" not in client.get(LOG, {"words": "api_key"}).content.decode()


def test_it_costs_the_same_for_two_and_for_fifty_rows(scenario: Scenario, client: Client) -> None:
    client.force_login(scenario.alice.user)
    counts = []
    for rows in (2, 50):
        for _row in range(rows):
            audit(scenario.alice, "team.changed", scenario.team)
        with CaptureQueriesContext(
            connection,
        ) as queries:
            client.get(LOG)
        counts.append(len(queries))
    assert counts[0] == counts[1]


def test_nobody_alters_or_deletes_a_row(scenario: Scenario) -> None:
    audit(scenario.alice, "team.changed", scenario.team)
    rows = AuditEvent.objects.for_team(scenario.team)
    for change in (lambda: rows.update(verb="nothing"), rows.delete):
        with pytest.raises(IntegrityError), transaction.atomic():
            change()
    assert rows.get().verb == "team.changed"
