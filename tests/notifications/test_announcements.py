"""What trainings, picture sets, models and members do is told to webhooks and to the people it concerns."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from django.core import mail
from django.db import transaction

from accounts.actor import member_actor
from accounts.models import Invitation
from accounts.roles import Role
from accounts.services.invitations import accept_invitation, invite
from accounts.services.memberships import remove_member
from accounts.services.privacy import delete_person
from notifications.events import NOT_YET, OFFERED, EventType
from notifications.kinds import Kind, MailWhen
from notifications.models import Notification, WebhookEvent
from notifications.services.inbox import choose
from notifications.services.webhooks import create_endpoint
from projects.services.versions import freeze_dataset
from tests.factories import UserFactory, make_member
from tests.scenario import Scenario
from tests.training.queueing import Bench
from tests.training.test_mail import deliver, fail, succeed
from training.models import TrainingJob
from training.services import lifecycle
from training.services.control import cancel_job, pause_job, resume_job
from training.services.lifecycle import hold

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bench(scenario: Scenario) -> Bench:
    create_endpoint(actor=scenario.alice, url="https://hooks.example.org/")
    return Bench(scenario.alice)


def told(scenario: Scenario, kind: str = "") -> list[str]:
    """Return the types of the team's events in order."""
    rows = WebhookEvent.objects.for_team(scenario.team).filter(type__startswith=kind).order_by("pk")
    return list(rows.values_list("type", flat=True))


def last(scenario: Scenario, kind: str) -> dict[str, object]:
    row = WebhookEvent.objects.for_team(scenario.team).filter(type=kind).latest("pk")
    data: dict[str, object] = json.loads(row.body)["data"]
    return data


def test_a_training_tells_its_way_from_the_queue_to_the_model(bench: Bench, scenario: Scenario) -> None:
    job = bench.job("Kael")
    succeed(bench.claim(), bench)
    assert told(scenario, "training") == ["training.queued", "training.started", "training.succeeded"]
    assert told(scenario, "model_version") == ["model_version.created"]
    data = last(scenario, "training.succeeded")
    assert (data["id"], data["object"], data["status"], data["name"]) == (
        job.uid,
        "training",
        "succeeded",
        "Kael",
    )
    job.refresh_from_db()
    assert job.lora_version is not None
    assert data["model_version"] == job.lora_version.uid == last(scenario, "model_version.created")["id"]
    row = Notification.objects.get(user=scenario.alice.user)
    assert (row.kind, row.title, row.path) == (
        Kind.TRAINING_DONE,
        "“Kael” is ready",
        f"/t/atelier/trainings/{job.uid}/",
    )


def test_a_failure_carries_its_code_and_no_log(bench: Bench, scenario: Scenario) -> None:
    bench.job()
    fail(bench.claim(), code="diverged", category="user", message="NaN", log=["a secret line"])
    data = last(scenario, "training.failed")
    assert data["error"] == {"code": "diverged", "category": "user"}
    row = WebhookEvent.objects.for_team(scenario.team).get(type="training.failed")
    assert "secret line" not in row.body
    assert len(row.body) < 1000
    assert Notification.objects.get().kind == Kind.TRAINING_FAILED


def test_pausing_a_live_training_tells_only_the_pause(bench: Bench, scenario: Scenario) -> None:
    job = bench.job()
    lease = bench.claim()
    with transaction.atomic():
        lifecycle.pause_job_now(hold(lease))
    assert told(scenario, "training") == ["training.queued", "training.started", "training.paused"]
    resume_job(actor=scenario.alice, job=job)
    assert told(scenario, "training")[-1] == "training.queued"


def test_who_cancels_somebody_elses_training_is_named_to_them(bench: Bench, scenario: Scenario) -> None:
    dora = make_member(scenario.team, Role.EDITOR, name="Dora")
    job = bench.job("Kael")
    cancel_job(actor=dora, job=job)
    cancel_job(actor=dora, job=job)
    row = Notification.objects.get()
    assert (row.user, row.kind, row.title) == (
        scenario.alice.user,
        Kind.TRAINING_CANCELED,
        "Dora canceled “Kael”",
    )
    assert told(scenario, "training")[-1] == "training.canceled"


def test_who_cancels_ones_own_training_is_not_told(bench: Bench, scenario: Scenario) -> None:
    cancel_job(actor=scenario.alice, job=bench.job())
    assert not Notification.objects.exists()


def test_wishing_twice_to_cancel_a_live_training_tells_once(bench: Bench, scenario: Scenario) -> None:
    dora = make_member(scenario.team, Role.EDITOR, name="Dora")
    job = bench.job()
    bench.claim()
    for _time in range(2):
        cancel_job(actor=dora, job=TrainingJob.objects.for_team(scenario.team).get(pk=job.pk))
    assert Notification.objects.count() == 1


@pytest.mark.parametrize("when", [MailWhen.NEVER, MailWhen.DAILY])
def test_the_outcome_mail_asks_what_the_person_chose(
    bench: Bench, scenario: Scenario, when: MailWhen
) -> None:
    choose(person=scenario.alice.user, choices={Kind.TRAINING_DONE: when})
    bench.job()
    succeed(bench.claim(), bench)
    assert deliver() == []
    assert Notification.objects.get().mail == when
    bench.job()
    fail(bench.claim(), code="diverged", category="user", message="NaN")
    assert len(deliver()) == 1  # the other kind as usual


def test_one_outcome_makes_one_mail(bench: Bench, scenario: Scenario) -> None:
    from tests.notifications.test_inbox import deliver as deliver_ours

    bench.job()
    succeed(bench.claim(), bench)
    deliver()
    deliver_ours()
    assert len(mail.outbox) == 1


def test_a_waiting_training_that_is_paused_says_so(bench: Bench, scenario: Scenario) -> None:
    pause_job(actor=scenario.alice, job=bench.job())
    assert told(scenario, "training") == ["training.queued", "training.paused"]


def test_freezing_tells_once_for_the_same_pictures(bench: Bench, scenario: Scenario) -> None:
    from tests.projects.conftest import Workshop

    dataset = bench.version.dataset
    Workshop(scenario, dataset).add(2)
    for _time in range(2):
        version = freeze_dataset(actor=scenario.alice, uid=dataset.uid)
    assert told(scenario, "dataset_version") == ["dataset_version.ready"]
    data = last(scenario, "dataset_version.ready")
    assert (data["id"], data["dataset"], data["pictures"]) == (version.uid, dataset.uid, version.item_count)


def test_who_joins_and_who_leaves_is_told(bench: Bench, scenario: Scenario) -> None:
    admin = make_member(scenario.team, Role.ADMIN)
    guest = UserFactory(email="dora@example.org", name="Dora")
    invite(actor=scenario.alice, email=guest.email, role=Role.EDITOR)
    invitation = Invitation.objects.for_team(scenario.team).get()
    accept_invitation(user=guest, invitation=invitation)
    data = last(scenario, "member.added")
    assert (data["id"], data["name"], data["role"]) == (guest.uid, "Dora", "editor")
    rows = Notification.objects.filter(kind=Kind.MEMBER_JOINED)
    assert {row.user_id for row in rows} == {scenario.alice.user.pk, admin.user.pk}
    assert rows[0].title == f"Dora joined {scenario.team.name}"
    remove_member(actor=member_actor(scenario.team, guest, Role.EDITOR), user_uid=guest.uid)
    assert last(scenario, "member.removed")["id"] == guest.uid


def test_events_are_offered_exactly_when_somebody_sends_them() -> None:
    sent = set()
    for app in ("accounts", "billing", "projects", "training", "platform/notifications/services"):
        for path in (ROOT / app).rglob("*.py"):
            named = re.findall(r"\bEventType\.([A-Z_]+)\b", path.read_text())
            sent |= {EventType[name] for name in named}
    # Take it out of NOT_YET when you wire it.
    assert sent - {EventType.TEST} == set(OFFERED)
    assert not sent & NOT_YET


def test_who_deletes_their_account_leaves_no_list_and_no_name(bench: Bench, scenario: Scenario) -> None:
    guest = UserFactory(email="dora@example.org", name="Dora")
    invite(actor=scenario.alice, email=guest.email, role=Role.EDITOR)
    accept_invitation(user=guest, invitation=Invitation.objects.for_team(scenario.team).get())
    choose(person=guest, choices={Kind.TRAINING_DONE: MailWhen.NEVER})
    delete_person(person=guest, email="dora@example.org")
    assert last(scenario, "member.removed")["id"] == guest.uid
    assert not guest.notification_choices.exists()
    (row,) = Notification.objects.filter(subject_uid=guest.uid)
    assert (row.user, row.subject_name) == (scenario.alice.user, "…")


def test_the_guide_names_every_event() -> None:
    guide = (ROOT / "docs" / "webhooks.md").read_text()
    assert [kind.value for kind in OFFERED if f"`{kind.value}`" not in guide] == []
    assert [kind.value for kind in NOT_YET if f"`{kind.value}`" in guide] == []
