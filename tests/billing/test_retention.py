"""Earlier checkpoints go when the plan keeps them no longer, the finished file stays, and a report says so."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from accounts.duties import delete_old_exports
from accounts.models import AuditEvent, Forgotten, Team, User
from billing.models import BillingAccount, Plan
from billing.plans import default_plan
from billing.services.accounts import put_on_plan
from projects.duties import delete_unused_blobs
from projects.models import Blob, LoraFile
from tests.scenario import Scenario
from tests.training.rows import make_blob
from tests.world import World, make_world
from training.models import Checkpoint, JobEvent, TrainingJob
from training.retention import forget_old_checkpoints, forget_old_events


@pytest.fixture
def world(scenario: Scenario) -> World:
    return make_world(scenario.alice, "mine")


@pytest.fixture
def early(world: World) -> Checkpoint:
    """Give the training a checkpoint of step 5, which its model offers too, and let it have ended 20 days ago."""
    blob = make_blob(world.actor, content=b"early weights")
    Blob.objects.for_team(world.actor.team).filter(pk=blob.pk).update(
        content_type="application/octet-stream", created_at=timezone.now() - timedelta(days=20)
    )
    LoraFile.objects.create(
        team=world.actor.team,
        version=world.model_version,
        blob=blob,
        filename="m-5.safetensors",
        step=5,
        epoch=1,
    )
    TrainingJob.objects.for_team(world.actor.team).filter(pk=world.job.pk).update(
        finished_at=timezone.now() - timedelta(days=20)
    )
    made: Checkpoint = Checkpoint.objects.create(
        team=world.actor.team, job=world.job, fence=1, step=5, epoch=1, export=blob
    )
    return made


def on_plan(team: Team, key: str) -> None:
    operator = User.objects.create_superuser(f"{key}-op@example.org", "a long pass phrase")
    put_on_plan(team=team, plan=Plan.objects.get(key=key), by=operator)


def test_a_plan_that_keeps_them_for_two_weeks_forgets_earlier_checkpoints_and_reports_it(
    scenario: Scenario, world: World, early: Checkpoint, client: Client
) -> None:
    on_plan(scenario.team, "free")
    assert forget_old_checkpoints() == 1
    early.refresh_from_db()
    assert early.export is None
    files = LoraFile.objects.for_team(scenario.team).filter(version=world.model_version)
    assert [file.is_final for file in files] == [True]
    assert Checkpoint.objects.for_team(scenario.team).get(is_final=True).export is not None
    delete_unused_blobs()
    assert not Blob.objects.for_team(scenario.team).filter(size=len(b"early weights")).exists()
    line = Forgotten.objects.for_team(scenario.team).get(what="checkpoints")
    assert (line.count, line.bytes) == (1, len(b"early weights"))
    assert forget_old_checkpoints() == 0
    client.force_login(scenario.alice.user)
    page = client.get("/t/atelier/settings/privacy/").content.decode()
    assert "14 days" in page
    assert "Earlier checkpoints" in page.partition("What was forgotten")[2].partition("</table>")[0]


@pytest.mark.parametrize("key", ["pro", "unlimited"])
def test_a_plan_that_keeps_them_longer_forgets_nothing(
    scenario: Scenario, early: Checkpoint, key: str
) -> None:
    on_plan(scenario.team, key)
    assert forget_old_checkpoints() == 0
    early.refresh_from_db()
    assert early.export is not None


def test_a_team_that_chose_no_plan_is_on_the_default_one(
    scenario: Scenario, early: Checkpoint, settings: pytest.FixtureRequest
) -> None:
    assert default_plan().key == "unlimited"
    assert forget_old_checkpoints() == 0
    settings.DEFAULT_PLAN = "free"  # type: ignore[attr-defined]
    assert forget_old_checkpoints() == 1


def test_the_training_page_says_until_when_its_checkpoints_are_kept(
    scenario: Scenario, world: World, early: Checkpoint, client: Client
) -> None:
    client.force_login(scenario.alice.user)
    page = f"/t/atelier/trainings/{world.job.uid}/"
    assert "Your plan keeps" not in client.get(page).content.decode()
    on_plan(scenario.team, "pro")
    assert "Your plan keeps the earlier ones until" in client.get(page).content.decode()


def test_one_day_has_one_line_for_each_kind(scenario: Scenario, world: World) -> None:
    team = scenario.team
    TrainingJob.objects.for_team(team).filter(pk=world.job.pk).update(
        finished_at=timezone.now() - timedelta(days=400)
    )
    there = JobEvent.objects.for_team(team).filter(job=world.job).count()
    assert forget_old_events() == there > 0
    JobEvent.objects.create(
        team=team, job=world.job, seq=9, fence=1, type="log", at=timezone.now(), data={"message": "late"}
    )
    assert forget_old_events() == 1
    assert Forgotten.objects.for_team(team).get(what="events").count == there + 1
    world.export.expires_at = timezone.now() - timedelta(days=1)
    world.export.save()
    assert delete_old_exports() == 1
    assert set(Forgotten.objects.for_team(team).values_list("what", flat=True)) == {"events", "exports"}


def test_an_operator_changes_a_plan_and_puts_a_team_on_it_in_the_open(
    scenario: Scenario, early: Checkpoint
) -> None:
    operator = User.objects.create_superuser("op@example.org", "a long pass phrase")
    desk = Client()
    desk.force_login(operator)
    free = Plan.objects.get(key="free")
    form = desk.get(f"/admin/billing/plan/{free.pk}/change/").context["adminform"].form
    data = {name: value for name, value in form.initial.items() if value is not None and value is not False}
    data |= {"retention_days": "30"}
    assert desk.post(f"/admin/billing/plan/{free.pk}/change/", data).status_code == 302
    data = {"team": scenario.team.pk, "plan": free.pk}
    assert desk.post("/admin/billing/billingaccount/add/", data).status_code == 302
    assert BillingAccount.objects.for_team(scenario.team).get().plan.retention_days == 30
    event = AuditEvent.objects.for_team(scenario.team).get(verb="plan.changed")
    assert (event.user, event.data) == (
        operator,
        {"before": "unlimited", "after": "free", "operator": "op@example.org"},
    )
    assert forget_old_checkpoints() == 0
