"""The activity feed tells what happened, to those who may know."""

from __future__ import annotations

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.roles import Role
from projects.services.projects import change_visibility
from tests.factories import make_member
from tests.scenario import Scenario
from tests.world import make_world

FEED = "/t/atelier/activity/"


def test_the_feed_tells_what_happened_with_the_newest_first(scenario: Scenario, client: Client) -> None:
    world = make_world(scenario.alice, "mine")
    client.force_login(scenario.bob.user)
    answer = client.get(FEED)
    told = [(each.what, each.name) for each in answer.context["activity"]]
    assert ("started the training", "Run") in told
    assert ("made the project", world.project.name) in told
    assert ("The training is done:", "Run") in told
    moments = [each.at for each in answer.context["activity"]]
    assert moments == sorted(moments, reverse=True)


def test_nothing_is_told_of_a_restricted_project(scenario: Scenario, client: Client) -> None:
    world = make_world(scenario.alice, "mine")
    change_visibility(actor=scenario.alice, uid=world.project.uid, is_restricted=True)
    client.force_login(make_member(scenario.team, Role.EDITOR).user)
    assert {each.what for each in client.get(FEED).context["activity"]} == {"joined the team"}
    client.force_login(make_member(scenario.team, Role.BILLING).user)
    assert {each.what for each in client.get(FEED).context["activity"]} == {"joined the team"}


def test_it_costs_the_same_for_few_and_for_many(scenario: Scenario, client: Client) -> None:
    client.force_login(scenario.alice.user)
    counts = []
    for people in (1, 20):
        for _person in range(people):
            make_member(scenario.team, Role.VIEWER)
        with CaptureQueriesContext(connection) as queries:
            client.get(FEED)
        counts.append(len(queries))
    assert counts[0] == counts[1]
