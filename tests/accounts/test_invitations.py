"""Invitations: by mail, for one address and one role, until they end."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.core import mail
from django.test import Client
from django.utils import timezone

from accounts.models import AuditEvent, Invitation, Membership, Team, User
from accounts.roles import Role
from accounts.services.invitations import invite, link_of
from accounts.tasks import mail_invitation
from core.errors import Conflict, DomainError, PermissionDenied
from core.models import OutboxMessage
from tests.factories import UserFactory, make_member
from tests.scenario import Scenario

NEW = "/t/atelier/settings/invitations/new/"


def path_of(invitation: Invitation) -> str:
    return re.sub(r"^https?://[^/]+", "", link_of(invitation))


def deliver() -> None:
    for row in OutboxMessage.objects.filter(done_at=None, actor="mail_invitation"):
        mail_invitation(row.pk, row.subject_uid)


def test_an_invitation_comes_by_mail_with_its_link(scenario: Scenario, client: Client) -> None:
    client.force_login(scenario.alice.user)
    answer = client.post(NEW, {"email": " Dora@Example.org ", "role": "editor"}, follow=True)
    assert "on its way to dora@example.org" in answer.content.decode()
    deliver()
    [message] = mail.outbox
    assert message.to == ["dora@example.org"]
    assert "Alice invites you into the team" in str(message.body)
    invitation = Invitation.objects.for_team(scenario.team).get()
    assert link_of(invitation) in str(message.body)
    event = AuditEvent.objects.for_team(scenario.team).get(verb="invitation.sent")
    assert event.data == {"email": "dora@example.org", "after": "editor"}


def test_a_new_person_signs_up_through_the_link_and_is_in_the_team(scenario: Scenario) -> None:
    invitation = invite(actor=scenario.alice, email="dora@example.org", role=Role.REVIEWER)
    newcomer = Client()
    page = newcomer.get(path_of(invitation)).content.decode()
    assert "/account/signup/?email=dora%40example.org" in page
    answer = newcomer.post(
        "/account/signup/", {"name": "Dora", "email": "dora@example.org", "password1": "a long pass phrase"}
    )
    assert answer.status_code == 302
    dora = User.objects.get(email="dora@example.org")
    assert [(m.team, m.role) for m in dora.memberships.all()] == [(scenario.team, "reviewer")]
    assert newcomer.get("/t/atelier/").status_code == 200
    assert not Invitation.objects.for_team(scenario.team).get().is_open


def test_who_opened_the_link_and_signs_up_with_another_address_gets_a_team_of_their_own(
    scenario: Scenario,
) -> None:
    invitation = invite(actor=scenario.alice, email="dora@example.org", role=Role.OWNER)
    thief = Client()
    thief.get(path_of(invitation))
    thief.post(
        "/account/signup/", {"name": "Max", "email": "max@example.org", "password1": "a long pass phrase"}
    )
    assert not Membership.objects.filter(team=scenario.team, user__email="max@example.org").exists()
    assert Team.objects.filter(memberships__user__email="max@example.org").count() == 1
    assert Invitation.objects.for_team(scenario.team).get().is_open


def test_somebody_with_an_account_joins_with_one_click(scenario: Scenario) -> None:
    invitation = invite(actor=scenario.alice, email="charlie@example.org", role=Role.EDITOR)
    client = Client()
    client.force_login(scenario.charlie.user)
    assert "Join the team" in client.get(path_of(invitation)).content.decode()
    assert client.post(path_of(invitation)).status_code == 302
    member = Membership.objects.get(team=scenario.team, user=scenario.charlie.user)
    assert member.role == Role.EDITOR
    assert client.post(path_of(invitation)).status_code == 410


def test_another_person_cannot_use_the_link(scenario: Scenario) -> None:
    invitation = invite(actor=scenario.alice, email="dora@example.org", role=Role.EDITOR)
    client = Client()
    client.force_login(scenario.charlie.user)
    assert "is for dora@example.org" in client.get(path_of(invitation)).content.decode()
    assert client.post(path_of(invitation)).status_code == 403
    assert not Membership.objects.filter(team=scenario.team, user=scenario.charlie.user).exists()


@pytest.mark.parametrize("ending", ["revoked", "expired", "team deleted", "forged"])
def test_a_link_that_has_ended_opens_nothing(scenario: Scenario, ending: str) -> None:
    invitation = invite(actor=scenario.alice, email="charlie@example.org", role=Role.EDITOR)
    path = path_of(invitation)
    client = Client()
    if ending == "revoked":
        client.force_login(scenario.alice.user)
        client.post(f"/t/atelier/settings/invitations/{invitation.uid}/revoke/")
    elif ending == "expired":
        Invitation.objects.for_team(scenario.team).update(expires_at=timezone.now() - timedelta(seconds=1))
    elif ending == "team deleted":
        Team.objects.filter(pk=scenario.team.pk).update(deleted_at=timezone.now())
    else:
        path = path[:-4] + "xxx/"
    client.force_login(scenario.charlie.user)
    assert client.get(path).status_code in (404, 410)
    assert client.post(path).status_code in (404, 410)
    assert not Membership.objects.filter(team=scenario.team, user=scenario.charlie.user).exists()


def test_inviting_again_renews_the_same_invitation(scenario: Scenario) -> None:
    first = invite(actor=scenario.alice, email="dora@example.org", role=Role.VIEWER)
    Invitation.objects.for_team(scenario.team).update(expires_at=timezone.now() - timedelta(days=1))
    again = invite(actor=scenario.alice, email="dora@example.org", role=Role.EDITOR)
    assert (again.pk, again.role, again.is_open) == (first.pk, "editor", True)


def test_nobody_is_invited_above_the_own_role_or_twice(scenario: Scenario) -> None:
    admin = make_member(scenario.team, Role.ADMIN)
    with pytest.raises(PermissionDenied):
        invite(actor=admin, email="dora@example.org", role=Role.OWNER)
    with pytest.raises(Conflict):
        invite(actor=admin, email="BOB@example.org", role=Role.EDITOR)
    with pytest.raises(DomainError, match="not an e-mail address"):
        invite(actor=admin, email="nonsense", role=Role.EDITOR)
    assert not Invitation.objects.for_team(scenario.team).exists()


def test_a_member_who_accepts_keeps_the_role_they_have(scenario: Scenario) -> None:
    invitation = invite(actor=scenario.alice, email="dora@example.org", role=Role.VIEWER)
    dora = UserFactory(email="dora@example.org")
    Membership.objects.create(team=scenario.team, user=dora, role=Role.ADMIN)
    client = Client()
    client.force_login(dora)
    client.post(path_of(invitation))
    assert Membership.objects.get(team=scenario.team, user=dora).role == Role.ADMIN
