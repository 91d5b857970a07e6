"""The tenant wall, net by net: refusing managers, the composite foreign key, doors on every address."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.apps import apps
from django.db import IntegrityError, connection, transaction
from django.urls import URLPattern, URLResolver, get_resolver

from accounts.models import AuditEvent, Team
from core.tenancy.constraints import SameTeam
from core.tenancy.models import TenantModel, UnscopedQuery
from projects.models import Dataset, DatasetVersion, Project
from tests.scenario import Scenario

ROOT = Path(__file__).resolve().parents[2]
APPS = ("accounts", "billing", "projects", "training", "platform")
DOORS = {"team", "account", "public", "machine"}
# Third-party pages that bring their own login rules: Django's admin (staff only) and allauth's account pages.
FOREIGN_DOORS = ("admin/", "account/")

# Who may reach across teams, and why.
UNSCOPED_ALLOWED = (
    "platform/core/tenancy/",  # defines it
    "accounts/services/api_keys.py",  # the key itself proves the team
    "accounts/services/privacy.py",  # a person's own changes, in whatever team
    "accounts/services/invitations.py",  # the signed link proves it
    "billing/overview.py",  # sums of all teams, for operators
    "billing/handlers.py",  # the Stripe inbox: the customer of a signed message leads to the team
    "projects/duties.py",  # clears expired uploads and old answers of all teams
    "training/queue/",  # the queue serves all teams
    "training/management/",
    "/admin.py",
    "/migrations/",
    "/retention.py",  # the clock forgets for all teams
    "/duties.py",  # the clock sweeps for all teams
    "/tasks.py",  # short jobs act on one uid from the outbox
)


def tenant_models() -> list[type[TenantModel]]:
    return [model for model in apps.get_models() if issubclass(model, TenantModel)]


def test_every_model_with_a_team_is_a_tenant_model() -> None:
    exempt = {"Membership"}  # the table that says who belongs to a team
    loose = [
        model.__name__
        for model in apps.get_models()
        if any(field.related_model is Team for field in model._meta.fields)
        and not issubclass(model, TenantModel)
        and model.__name__ not in exempt
    ]
    assert loose == []


def test_every_link_between_tenant_tables_has_a_same_team_constraint() -> None:
    missing = []
    for model in tenant_models():
        guarded = {c.parent for c in model._meta.constraints if isinstance(c, SameTeam)}
        for field in model._meta.fields:
            parent = field.related_model
            if isinstance(parent, type) and issubclass(parent, TenantModel) and field.name not in guarded:
                missing.append(f"{model.__name__}.{field.name}")
    assert missing == []


@pytest.mark.parametrize("model", tenant_models(), ids=lambda model: model.__name__)
def test_a_query_without_a_team_is_refused(model: type[TenantModel]) -> None:
    for call in (model.objects.all, model.objects.count, lambda: model.objects.filter(pk=1)):
        with pytest.raises(UnscopedQuery):
            call()


def test_a_team_sees_only_its_rows(scenario: Scenario) -> None:
    mine = Project.objects.create(team=scenario.team, name="Mine")
    Project.objects.create(team=scenario.charlie.team, name="Theirs")
    assert list(Project.objects.for_team(scenario.team)) == [mine]


def test_the_database_refuses_a_link_into_another_team(scenario: Scenario) -> None:
    theirs = Project.objects.create(team=scenario.charlie.team, name="Theirs")

    def steal() -> None:
        Dataset.objects.create(team=scenario.team, project=theirs, name="Stolen")
        connection.check_constraints()  # what the commit would do

    with pytest.raises(IntegrityError, match="projects_dataset_same_team_project"), transaction.atomic():
        steal()
    assert not Dataset.objects.for_team(scenario.team).exists()


def test_the_audit_log_cannot_be_changed(scenario: Scenario) -> None:
    event = AuditEvent.objects.create(
        team=scenario.team, user=scenario.alice.user, verb="x", subject_uid="prj_x", data={}
    )
    rows = AuditEvent.objects.for_team(scenario.team).filter(pk=event.pk)
    for change in (lambda: rows.update(verb="y"), rows.delete):
        with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
            change()
    assert rows.get().verb == "x"


def test_a_frozen_version_cannot_be_changed(scenario: Scenario) -> None:
    project = Project.objects.create(team=scenario.team, name="P")
    dataset = Dataset.objects.create(team=scenario.team, project=project, name="D")
    version = DatasetVersion.objects.create(
        team=scenario.team, dataset=dataset, number=1, item_count=0, manifest_sha256="0" * 64
    )
    with pytest.raises(IntegrityError, match="cannot be changed"), transaction.atomic():
        DatasetVersion.objects.for_team(scenario.team).filter(pk=version.pk).update(item_count=9)


def python_files() -> Iterator[Path]:
    for app in APPS:
        yield from (path for path in (ROOT / app).rglob("*.py") if "engine" not in path.parts)


def test_only_named_places_reach_across_teams() -> None:
    found = []
    for path in python_files():
        relative = path.relative_to(ROOT).as_posix()
        if any(part in relative for part in UNSCOPED_ALLOWED):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in {
                "unscoped",
                "_base_manager",
                "_default_manager",
            }:
                found.append(f"{relative}:{node.lineno}")
    assert found == []


def walk(patterns: list[URLPattern | URLResolver], prefix: str = "") -> Iterator[tuple[str, URLPattern]]:
    for entry in patterns:
        address = prefix + str(entry.pattern)
        if isinstance(entry, URLResolver):
            yield from walk(entry.url_patterns, address)
        else:
            yield address, entry


def door_of(pattern: URLPattern) -> str | None:
    view = pattern.callback
    for candidate in (view, getattr(view, "cls", None), getattr(view, "view_class", None)):
        if door := getattr(candidate, "door", None):
            return str(door)
    return None


def test_every_address_has_exactly_one_kind_of_door() -> None:
    open_addresses = [
        address
        for address, pattern in walk(get_resolver().url_patterns)
        if not address.startswith(FOREIGN_DOORS) and door_of(pattern) not in DOORS
    ]
    assert open_addresses == []


def test_team_pages_and_only_those_lie_under_the_team() -> None:
    misplaced = [
        address
        for address, pattern in walk(get_resolver().url_patterns)
        if (door_of(pattern) == "team") != address.startswith("t/<slug:slug>/")
    ]
    assert misplaced == []
