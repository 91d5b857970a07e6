"""What a plan allows is enforced where it is used, exactly, with words that say what would help."""

from __future__ import annotations

import threading

import pytest
from django.db import connection
from rest_framework.test import APIClient

from accounts.models import Invitation, Membership
from accounts.roles import Role
from core.errors import QuotaExceeded
from core.quotas import answer, demand
from tests.api.clients import API, with_key, with_token
from tests.billing.plans import on_plan
from tests.factories import make_member
from tests.scenario import Scenario, make_scenario
from tests.training.queueing import Bench
from training.models import TrainingJob
from training.states import JobState


@pytest.fixture
def bench(scenario: Scenario) -> Bench:
    return Bench(scenario.alice)


def test_the_default_plan_limits_nothing(scenario: Scenario) -> None:
    for quota in ("trainings_a_month", "seats", "stored_bytes"):
        assert answer(scenario.team, quota, adding=10**9).is_allowed


def test_a_month_of_trainings_is_used_up_and_the_words_say_what_helps(
    scenario: Scenario, bench: Bench
) -> None:
    on_plan(scenario, "free", trainings_a_month=2, queued_trainings=9)
    bench.job()
    bench.job()
    with pytest.raises(QuotaExceeded) as refused:
        bench.job()
    error = refused.value
    assert (error.code, error.extra["quota"], error.extra["limit"], error.extra["used"]) == (
        "quota_exceeded",
        "trainings_a_month",
        2,
        2,
    )
    assert error.extra["resets_at"].day == 1
    assert error.extra["plan"] == "Pro"
    assert error.message == (
        "This team has started 2 of its 2 trainings of this month. The plan “Pro” allows it."
    )
    assert TrainingJob.objects.for_team(scenario.team).count() == 2


def test_what_never_began_and_what_failed_through_our_fault_does_not_count(
    scenario: Scenario, bench: Bench
) -> None:
    on_plan(scenario, "free", trainings_a_month=1, queued_trainings=9)
    for state, values in (
        (JobState.CANCELED, {}),
        (JobState.FAILED, {"error_category": "platform"}),
    ):
        job = bench.job()
        TrainingJob.objects.for_team(scenario.team).filter(pk=job.pk).update(
            state=state, finished_at=job.created_at, **values
        )
    assert answer(scenario.team, "trainings_a_month").is_allowed
    job = bench.job()
    TrainingJob.objects.for_team(scenario.team).filter(pk=job.pk).update(
        state=JobState.FAILED, finished_at=job.created_at, error_category="user"
    )
    assert not answer(scenario.team, "trainings_a_month").is_allowed


def test_more_steps_than_the_plan_has_are_refused_at_their_field(scenario: Scenario, bench: Bench) -> None:
    on_plan(scenario, "free", steps_per_training=50)
    client = with_token(scenario.alice)
    answered = client.post(
        f"{API}/trainings:estimate",
        {"dataset_version": bench.version.uid, "base_model": "demo", "template": "style"},
        format="json",
    )
    assert answered.json()["steps"] > 50
    with pytest.raises(QuotaExceeded, match="up to 50 steps") as refused:
        bench.job()
    assert refused.value.pointer == "/settings/training/steps"


def test_a_base_model_that_is_not_standard_needs_a_plan_that_has_it(scenario: Scenario, bench: Bench) -> None:
    type(bench.base).objects.filter(pk=bench.base.pk).update(is_standard=False)
    bench.base.refresh_from_db()
    on_plan(scenario, "free")
    with pytest.raises(Exception, match="not part of your plan") as refused:
        bench.job()
    assert (refused.value.code, refused.value.extra) == (  # type: ignore[attr-defined]
        "plan_feature_required",
        {"feature": "all_base_models", "plan": "Pro"},
    )
    on_plan(scenario, "pro")
    assert bench.job().state == JobState.QUEUED


def test_seats_count_members_and_promises(scenario: Scenario) -> None:
    on_plan(scenario, "pro", seats=3)  # alice, bob and one more
    client = with_key(scenario.alice)
    first = client.post(f"{API}/invitations", {"email": "c@example.org", "role": "viewer"}, format="json")
    again = client.post(f"{API}/invitations", {"email": "c@example.org", "role": "editor"}, format="json")
    second = client.post(f"{API}/invitations", {"email": "d@example.org", "role": "viewer"}, format="json")
    assert (first.status_code, again.status_code, second.status_code) == (201, 201, 429)
    assert second.json()["quota"] == "seats"
    assert "All 3 seats" in second.json()["detail"]
    assert Invitation.objects.for_team(scenario.team).count() == 1


def test_a_plan_without_api_lets_programs_read_only(scenario: Scenario) -> None:
    on_plan(scenario, "free", seats=9)
    for client in (with_key(scenario.alice), with_token(scenario.alice)):
        refused = client.post(f"{API}/projects", {"name": "Lamps"}, format="json")
        assert (refused.status_code, refused.json()["code"]) == (403, "plan_feature_required")
        assert refused.json()["plan"] == "Pro"
        assert client.get(f"{API}/projects").status_code == 200
        assert client.get(f"{API}/limits").status_code == 200
    on_plan(scenario, "pro")
    assert with_key(scenario.alice).post(f"{API}/projects", {"name": "L"}, format="json").status_code == 201


def test_limits_name_what_resets(scenario: Scenario) -> None:
    on_plan(scenario, "free")
    rows = {row["quota"]: row for row in with_key(scenario.alice).get(f"{API}/limits").json()["quotas"]}
    assert (rows["seats"]["used"], rows["seats"]["limit"]) == (2, 1)
    assert rows["seats"]["resets_at"] is None
    assert rows["trainings_a_month"]["resets_at"] is not None


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_of_200_starts_at_once_against_a_limit_of_3_exactly_3_succeed() -> None:
    scenario = make_scenario()
    bench = Bench(scenario.alice)
    on_plan(scenario, "pro", trainings_a_month=3, queued_trainings=500)
    demand(scenario.team, "trainings_a_month")
    gate, answers = threading.Barrier(20), []

    def start(each: int) -> None:
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {key}")
        gate.wait()
        for number in range(10):
            answered = client.post(
                f"{API}/trainings",
                {
                    "dataset_version": bench.version.uid,
                    "base_model": "demo",
                    "template": "style",
                    "name": "Run",
                },
                format="json",
                headers={"Idempotency-Key": f"{each}-{number}"},
            )
            answers.append((answered.status_code, answered.json().get("quota")))
        connection.close()

    from accounts.services.api_keys import create_api_key

    key = create_api_key(actor=scenario.alice, name="many").text
    threads = [threading.Thread(target=start, args=[each]) for each in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(set(answers)) == [(201, None), (429, "trainings_a_month")]
    assert answers.count((201, None)) == 3
    assert len(answers) == 200
    assert TrainingJob.objects.for_team(scenario.team).count() == 3


def test_a_team_over_its_seats_keeps_its_people_and_takes_nobody_new(scenario: Scenario) -> None:
    make_member(scenario.team, Role.EDITOR)
    on_plan(scenario, "free")
    assert Membership.objects.filter(team=scenario.team).count() == 3
    with pytest.raises(QuotaExceeded, match="All 1 seats"):
        demand(scenario.team, "seats")
