"""Seats beyond a plan's own: paid for each, carried over as far as members need them, never taken from a member."""

from __future__ import annotations

import pytest
from django.test import Client

from accounts.models import AuditEvent
from accounts.roles import Role
from accounts.services.invitations import invite
from billing.duties import reconcile
from billing.services.purchases import choose_plan, set_seats
from billing.stripe_rows import CardDeclined
from core.errors import Conflict, DomainError, NotFound, PermissionDenied, QuotaExceeded
from tests.api.clients import API, with_key, with_token
from tests.billing.till import Till, account, subscribe
from tests.factories import make_member
from tests.scenario import Scenario


@pytest.fixture
def subscribed(scenario: Scenario, till: Till) -> Scenario:
    """A team of two people on the plan Team, which has ten seats and is paid."""
    subscribe(scenario, till, "team")
    return scenario


def totals(till: Till) -> list[int]:
    return [row.total for row in till.server.client().v1.invoices.list({}).data]


def items(till: Till) -> list[tuple[str, int | None]]:
    (row,) = till.server.client().v1.subscriptions.list({}).data
    return sorted((item.price.lookup_key, getattr(item, "quantity", None)) for item in row["items"].data)


def fill(scenario: Scenario, members: int) -> None:
    for _member in range(members):
        make_member(scenario.team, Role.VIEWER)


def test_a_further_seat_is_invoiced_at_once_and_lets_one_more_in(subscribed: Scenario, till: Till) -> None:
    fill(subscribed, 8)
    with pytest.raises(QuotaExceeded, match="All 10 seats"):
        invite(actor=subscribed.alice, email="new@example.org", role=Role.VIEWER)
    set_seats(actor=subscribed.alice, seats=2, once="2")
    assert totals(till)[0] == 1_800
    assert account(subscribed).extra_seats == 2
    invite(actor=subscribed.alice, email="new@example.org", role=Role.VIEWER)
    written = AuditEvent.objects.for_team(subscribed.team).filter(verb="seats.changed").get()
    assert (written.data["before"], written.data["after"]) == (0, 2)
    set_seats(actor=subscribed.alice, seats=2, once="3")
    assert len(totals(till)) == 2


def test_seats_that_are_taken_or_promised_are_not_given_back(subscribed: Scenario, till: Till) -> None:
    set_seats(actor=subscribed.alice, seats=3, once="2")
    fill(subscribed, 8)
    invite(actor=subscribed.alice, email="new@example.org", role=Role.VIEWER)
    with pytest.raises(Conflict, match="1 more seat is taken"):
        set_seats(actor=subscribed.alice, seats=0, once="3")
    set_seats(actor=subscribed.alice, seats=1, once="4")
    assert account(subscribed).extra_seats == 1
    assert items(till) == [("plan_team_monthly", 1), ("plan_team_overage", None), ("plan_team_seat", 1)]


def test_a_change_of_plan_carries_the_seats_that_members_need(subscribed: Scenario, till: Till) -> None:
    set_seats(actor=subscribed.alice, seats=5, once="2")
    fill(subscribed, 4)
    choose_plan(actor=subscribed.alice, key="pro", once="3")
    assert items(till) == [("plan_team_monthly", 1), ("plan_team_overage", None), ("plan_team_seat", 5)]
    with pytest.raises(Conflict, match="begins soon"):
        set_seats(actor=subscribed.alice, seats=6, once="4")
    till.server.control("advance", seconds=40 * 86_400)
    till.deliver()
    assert items(till) == [("plan_pro_monthly", 1), ("plan_pro_overage", None), ("plan_pro_seat", 3)]
    assert (account(subscribed).plan.key, account(subscribed).extra_seats) == ("pro", 3)
    set_seats(
        actor=subscribed.alice, seats=4, once="6"
    )  # the schedule is still there, the smaller plan began
    assert account(subscribed).extra_seats == 4
    choose_plan(actor=subscribed.alice, key="team", once="5")
    assert items(till) == [("plan_team_monthly", 1), ("plan_team_overage", None)]
    assert account(subscribed).extra_seats == 0


def test_a_declined_card_gives_no_seat(subscribed: Scenario, till: Till) -> None:
    till.server.control("card", customer=account(subscribed).stripe_customer, outcome="declined")
    with pytest.raises(CardDeclined):
        set_seats(actor=subscribed.alice, seats=1, once="2")
    reconcile()
    assert account(subscribed).extra_seats == 0


def test_who_may_not_pay_and_plans_without_seats_for_sale_buy_none(scenario: Scenario, till: Till) -> None:
    with pytest.raises(Conflict, match="no further seats"):
        set_seats(actor=scenario.alice, seats=1, once="1")
    with pytest.raises(DomainError, match="0 to 1000"):
        set_seats(actor=scenario.alice, seats=-1, once="1")
    with pytest.raises(PermissionDenied):
        set_seats(actor=make_member(scenario.team, Role.EDITOR), seats=1, once="1")


def test_without_payments_there_are_no_seats_to_buy(scenario: Scenario) -> None:
    with pytest.raises(NotFound):
        set_seats(actor=scenario.alice, seats=1, once="1")


def test_seats_are_bought_on_the_page_and_over_the_api(subscribed: Scenario, client: Client) -> None:
    client.force_login(subscribed.alice.user)
    page = f"/t/{subscribed.team.slug}/settings/plan/"
    shown = client.get(page).content.decode()
    assert "A further one is $9 a month" in shown
    answer = client.post(f"{page}seats/", {"seats": "2", "once": "a"}, follow=True)
    assert "Saved. It holds at once." in answer.content.decode()
    assert "of 12" in answer.content.decode()
    assert "$117 a month." in answer.content.decode()
    fill(subscribed, 2)
    assert "With 1 further seat for your members, $10 more a month." in client.get(page).content.decode()
    assert client.post(f"{page}seats/", {"seats": "many", "once": "b"}).status_code == 422
    payer = with_token(subscribed.alice)
    found = payer.put(f"{API}/billing/seats", {"seats": 1}, format="json").json()
    assert found["seats"] == {"included": 10, "further": 1, "further_cents": 900}
    assert payer.put(f"{API}/billing/seats", {"seats": -1}, format="json").status_code == 422
    key = with_key(subscribed.alice)
    assert key.put(f"{API}/billing/seats", {"seats": 1}, format="json").status_code == 403
