from __future__ import annotations

from datetime import timedelta

from django.utils import timezone

from billing.models import UsageEntry
from billing.services.usage import record_usage, seconds_this_month
from tests.scenario import Scenario


def test_an_attempt_is_counted_once_however_often_it_is_told(scenario: Scenario) -> None:
    for seconds in (12.5, 99.0):
        record_usage(team=scenario.team, job_uid="trn_a", attempt=1, seconds=seconds, useful=True)
    record_usage(team=scenario.team, job_uid="trn_a", attempt=2, seconds=7.5, useful=True)
    assert seconds_this_month(scenario.team) == 20.0


def test_lost_work_and_other_teams_do_not_count(scenario: Scenario) -> None:
    record_usage(team=scenario.team, job_uid="trn_a", attempt=1, seconds=30, useful=False)
    record_usage(team=scenario.charlie.team, job_uid="trn_b", attempt=1, seconds=40, useful=True)
    assert seconds_this_month(scenario.team) == 0


def test_last_month_does_not_count(scenario: Scenario) -> None:
    record_usage(team=scenario.team, job_uid="trn_a", attempt=1, seconds=30, useful=True)
    before = timezone.now().replace(day=1) - timedelta(days=2)
    UsageEntry.objects.for_team(scenario.team).update(created_at=before)
    assert seconds_this_month(scenario.team) == 0


def test_a_clock_that_went_backwards_costs_nothing(scenario: Scenario) -> None:
    record_usage(team=scenario.team, job_uid="trn_a", attempt=1, seconds=-3, useful=True)
    assert UsageEntry.objects.for_team(scenario.team).get().seconds == 0
