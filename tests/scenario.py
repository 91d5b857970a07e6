"""The people of most tests: Alice owns a team, Bob views it, Charlie is a stranger with a team of his own."""

from __future__ import annotations

from dataclasses import dataclass

from accounts.actor import Actor
from accounts.models import Team
from accounts.roles import Role
from tests.factories import TeamFactory, make_member


@dataclass(frozen=True)
class Scenario:
    team: Team
    alice: Actor
    bob: Actor
    charlie: Actor


def make_scenario() -> Scenario:
    """Make the three people and their two teams."""
    team, other = TeamFactory(slug="atelier", name="Atelier"), TeamFactory(slug="elsewhere")
    return Scenario(
        team=team,
        alice=make_member(team, Role.OWNER, email="alice@example.org", name="Alice"),
        bob=make_member(team, Role.VIEWER, email="bob@example.org", name="Bob"),
        charlie=make_member(other, Role.OWNER, email="charlie@example.org", name="Charlie"),
    )
