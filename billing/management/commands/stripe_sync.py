"""`manage.py stripe_sync`: make products, prices and the meter at Stripe what the tables of plans and top-ups say."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from billing import gateway
from billing.models import Plan, TopUp
from billing.services.subscriptions import overage_key, price_key, seat_key, top_up_key
from billing.stripe_rows import PLAN_PRODUCT, SEAT_PRODUCT
from core.errors import DomainError


class Command(BaseCommand):
    help = "Make products, prices and the meter at Stripe what the tables of plans and top-ups say."

    def handle(self, **options: Any) -> None:
        if not gateway.is_on():
            raise CommandError("Payments are off: set STRIPE_SECRET_KEY first.")
        try:
            self._plans()
            self._top_ups()
        except DomainError as error:
            raise CommandError(error.message) from error

    def _plans(self) -> None:
        meter = gateway.put_meter()
        for plan in Plan.objects.filter(is_on_sale=True, price_cents__gt=0):
            product = gateway.put_product(f"{PLAN_PRODUCT}{plan.key}", plan.name)
            cents = plan.price_cents or 0
            gateway.put_price(product=product, lookup_key=price_key(plan), cents=cents, every_month=True)
            if overage := overage_key(plan):
                gateway.put_price(
                    product=product,
                    lookup_key=overage,
                    cents=(plan.overage_cents_an_hour or 0) / 3600,
                    every_month=True,
                    meter=meter,
                )
            if further := seat_key(plan):
                gateway.put_price(
                    product=gateway.put_product(f"{SEAT_PRODUCT}{plan.key}", f"{plan.name}: further seat"),
                    lookup_key=further,
                    cents=plan.seat_cents or 0,
                    every_month=True,
                )
            self.stdout.write(f"{plan.name}: {cents / 100:.2f} a month")

    def _top_ups(self) -> None:
        for top_up in TopUp.objects.filter(is_on_sale=True):
            name = f"{top_up.minutes} GPU minutes"
            product = gateway.put_product(f"topup_{top_up.key}", name)
            gateway.put_price(
                product=product, lookup_key=top_up_key(top_up), cents=top_up.price_cents, every_month=False
            )
            self.stdout.write(f"{name}: {top_up.price_cents / 100:.2f}")
