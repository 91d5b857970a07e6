"""`/billing` and `/spend_limit`: the team's plan and money, for people and programs that look after them."""

from __future__ import annotations

import hashlib
import secrets
from typing import Any, ClassVar

from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.actor import Actor
from accounts.api.base import StrictSerializer, TeamViewSet, Whole
from accounts.roles import Can
from billing import gateway
from billing.entitlements import account_of
from billing.models import BillingAccount
from billing.selectors import plan_page
from billing.services.purchases import (
    HIGHEST_LIMIT_CENTS,
    MOST_SEATS,
    buy_top_up,
    choose_plan,
    open_portal,
    set_seats,
    set_spend_limit,
)
from core.api.idempotency import idempotent
from core.errors import NotFound


class BalanceResult(serializers.Serializer[Any]):
    allowance_seconds = serializers.IntegerField(help_text="Left of this month.")
    bought_seconds = serializers.IntegerField(help_text="Left of what was bought; never lapses.")
    overage_seconds = serializers.IntegerField(help_text="May still be invoiced under the spend limit.")
    held_seconds = serializers.IntegerField(help_text="Reserved for trainings that wait or run.")


class SeatsResult(serializers.Serializer[Any]):
    included = serializers.IntegerField(allow_null=True, help_text="Of the plan; null for any number.")
    further = serializers.IntegerField(help_text="Paid for each.")
    further_cents = serializers.IntegerField(
        allow_null=True, help_text="Of each a month; null where none are sold."
    )


class PlanResult(serializers.Serializer[Any]):
    object = serializers.CharField()
    plan = serializers.CharField()
    status = serializers.CharField(allow_null=True, help_text="Of the subscription; null without one.")
    period_end = serializers.DateTimeField(allow_null=True)
    ends_at_period_end = serializers.BooleanField()
    next_plan = serializers.CharField(allow_null=True, help_text="A smaller plan that begins then.")
    seats = SeatsResult()
    metered = serializers.BooleanField(help_text="Whether GPU time is counted against an allowance.")
    balance = BalanceResult()


class SpendLimitResult(serializers.Serializer[Any]):
    object = serializers.CharField()
    cents = serializers.IntegerField()
    used_cents = serializers.IntegerField(help_text="Of this month so far, trainings that run included.")


@extend_schema_serializer(examples=[OpenApiExample("Fifty dollars", {"cents": 5000}, request_only=True)])
class SpendLimitInput(StrictSerializer):
    cents = Whole(min_value=0, max_value=HIGHEST_LIMIT_CENTS, help_text="US cents a month.")


@extend_schema_serializer(examples=[OpenApiExample("Two further seats", {"seats": 2}, request_only=True)])
class SeatsInput(StrictSerializer):
    seats = Whole(min_value=0, max_value=MOST_SEATS, help_text="Beyond those of the plan.")


class CheckoutInput(StrictSerializer):
    """Name a plan or a top-up."""

    plan = serializers.CharField(max_length=40, required=False)
    top_up = serializers.CharField(max_length=40, required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if len(attrs) != 1:
            raise serializers.ValidationError("Name either a plan or a top_up.", code="one_of")
        return attrs


class AddressResult(serializers.Serializer[Any]):
    object = serializers.CharField()
    url = serializers.CharField(
        allow_null=True, help_text="Where a person pays; null when it is done already."
    )


class InvoiceResult(serializers.Serializer[Any]):
    id = serializers.CharField()
    number = serializers.CharField()
    status = serializers.CharField()
    cents = serializers.IntegerField()
    currency = serializers.CharField()
    created_at = serializers.DateTimeField(source="made_at")
    url = serializers.CharField(source="page")
    pdf = serializers.CharField()


class InvoiceList(serializers.Serializer[Any]):
    data = InvoiceResult(many=True)  # type: ignore[assignment]


def _once(request: Request) -> str:
    """Return a name for one press: of any key the same short one, for Stripe's own keys are limited."""
    key = request.headers.get("Idempotency-Key", "")
    return hashlib.sha256(key.encode()).hexdigest()[:32] if key else secrets.token_urlsafe(12)


class BillingViewSet(TeamViewSet):
    can = {
        "plan": Can.USAGE_VIEW,
        "spend_limit": Can.USAGE_VIEW,
        "change_spend_limit": Can.BILLING,
        "checkout": Can.BILLING,
        "seats": Can.BILLING,
        "portal": Can.BILLING,
        "invoices": Can.USAGE_VIEW,
    }
    serializer_class = PlanResult
    in_every_plan = True
    problems: ClassVar[dict[str, tuple[int, ...]]] = {
        "checkout": (402, 503),
        "seats": (402, 503),
        "portal": (503,),
        "invoices": (503,),
    }

    def scoped(self, actor: Actor) -> QuerySet[Any]:
        return BillingAccount.objects.for_team(actor.team)

    @extend_schema(operation_id="billing_plan", responses=PlanResult)
    def plan(self, request: Request) -> Response:
        """Say which plan the team is on and what GPU time is left."""
        page = plan_page(self.actor)
        account = page.account
        result = {
            "object": "plan",
            "plan": page.plan.key,
            "status": account.status or None,
            "period_end": account.period_end,
            "ends_at_period_end": account.ends_at_period_end,
            "next_plan": account.next_plan.key if account.next_plan else None,
            "seats": {
                "included": page.plan.seats,
                "further": account.extra_seats,
                "further_cents": page.plan.seat_cents,
            },
            "metered": page.plan.is_metered,
            "balance": {
                "allowance_seconds": page.funds.allowance,
                "bought_seconds": page.funds.bought,
                "overage_seconds": page.funds.overage,
                "held_seconds": page.held,
            },
        }
        return Response(PlanResult(result).data)

    @extend_schema(operation_id="spend_limit", responses=SpendLimitResult)
    def spend_limit(self, request: Request) -> Response:
        """Say what may be invoiced a month beyond plan and top-ups, and what of it is used."""
        page = plan_page(self.actor)
        used = {"cents": page.account.spend_limit_cents, "used_cents": page.overage_cents}
        return Response({"object": "spend_limit", **used})

    @extend_schema(operation_id="spend_limit_change", request=SpendLimitInput, responses=SpendLimitResult)
    def change_spend_limit(self, request: Request) -> Response:
        """Set what may be invoiced a month; at the limit trainings save and rest."""
        set_spend_limit(actor=self.actor, cents=self.input(SpendLimitInput)["cents"])
        return self.spend_limit(request)

    @extend_schema(
        operation_id="billing_checkout",
        request=CheckoutInput,
        responses=AddressResult,
        examples=[OpenApiExample("A plan", {"plan": "pro"}, request_only=True)],
    )
    @idempotent(in_transaction=False)
    def checkout(self, request: Request) -> Response:
        """Choose a plan or buy a top-up: gives the address of the page where a person pays.

        After a card was declined, send a new Idempotency-Key.
        """
        wanted = self.input(CheckoutInput)
        once = _once(request)
        if "plan" in wanted:
            url = choose_plan(actor=self.actor, key=wanted["plan"], once=once)
        else:
            url = buy_top_up(actor=self.actor, key=wanted["top_up"], once=once)
        return Response({"object": "checkout", "url": url or None})

    @extend_schema(operation_id="billing_seats", request=SeatsInput, responses=PlanResult)
    def seats(self, request: Request) -> Response:
        """Have another number of seats beyond the plan's: more are invoiced at once, fewer are set off."""
        seats = self.input(SeatsInput)["seats"]
        set_seats(actor=self.actor, seats=seats, once=secrets.token_urlsafe(12))
        return self.plan(request)

    @extend_schema(operation_id="billing_portal", request=None, responses=AddressResult)
    @idempotent(in_transaction=False)
    def portal(self, request: Request) -> Response:
        """Give the address of the page for cards, tax ids and invoices."""
        return Response({"object": "portal", "url": open_portal(actor=self.actor)})

    @extend_schema(operation_id="billing_invoices", responses=InvoiceList)
    def invoices(self, request: Request) -> Response:
        """List the newest invoices."""
        if not gateway.is_on():
            raise NotFound
        account = account_of(self.actor.team)
        customer = account.stripe_customer if account is not None else ""
        rows = gateway.invoices_of(customer) if customer else []
        return Response({"data": InvoiceResult(rows, many=True).data})
