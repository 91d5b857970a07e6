"""Subscriptions: what there is, and every change of one."""

from __future__ import annotations

from typing import Any

import stripe

from billing.gateway.talking import line_of, lines_of, once_for, prices_of, talking
from billing.stripe_rows import Lines, Subscription, is_metered, is_plan, is_seat, subscription_of


def subscriptions_of(customer: str) -> list[Subscription]:
    """Return every subscription of a customer, ended ones too, the newest first."""
    with talking() as api:
        found = api.subscriptions.list({"customer": customer, "status": "all", "limit": 100})
        return sorted((subscription_of(each) for each in found.data), key=lambda each: -each.created)


def upgrade(subscription: Subscription, *, lines: Lines, once: str) -> None:
    """Move to a larger plan at once; what is left of the month is set off and the difference invoiced now."""
    with talking() as api:
        _leave_schedule(api, subscription)
        params: dict[str, Any] = {
            "items": _exchange(api, subscription, lines_of(api, lines)),
            "proration_behavior": "always_invoice",
            **_without_end(subscription),
            # A card that is declined changes nothing, and a trial of a small plan is none of a large one.
            "payment_behavior": "error_if_incomplete",
        }
        if subscription.status == "trialing":
            params["trial_end"] = "now"
        api.subscriptions.update(subscription.id, params, once_for(f"upgrade:{subscription.id}:{once}"))  # type: ignore[arg-type]


def downgrade(subscription: Subscription, *, lines: Lines, once: str) -> None:
    """Move to a smaller plan when the month that is paid has ended."""
    with talking() as api:
        _leave_schedule(api, subscription)
        if subscription.ends_at_period_end:
            api.subscriptions.update(subscription.id, _without_end(subscription))
        schedule = api.subscription_schedules.create(
            {"from_subscription": subscription.id},
            once_for(f"schedule:{subscription.id}:{subscription.schedule}:{once}"),
        )
        now = schedule.phases[0]
        there = api.subscriptions.retrieve(subscription.id)["items"].data
        kept = [line_of(item.price, None if is_metered(item.price) else item.quantity) for item in there]
        phases: list[Any] = [
            {"items": kept, "start_date": now.start_date, "end_date": now.end_date},
            # Without `proration_behavior`: "none" would leave the last month's metered usage unbilled.
            {"items": lines_of(api, lines)},
        ]
        params: dict[str, Any] = {"end_behavior": "release", "phases": phases}
        api.subscription_schedules.update(schedule.id, params, once_for(f"phases:{schedule.id}:{once}"))  # type: ignore[arg-type]


def cancel(subscription: Subscription, *, once: str) -> None:
    """End a subscription when the month that is paid has ended."""
    with talking() as api:
        _leave_schedule(api, subscription)
        api.subscriptions.update(
            subscription.id, {"cancel_at_period_end": True}, once_for(f"cancel:{subscription.id}:{once}")
        )


def end_now(subscription: Subscription, *, give_back: bool = False, forgive: bool = False) -> None:
    """End a subscription at once and invoice what was used beyond it; one that has ended already stays so.

    `give_back` credits the time that was paid and is left. `forgive` invoices nothing and voids what is open: a plan
    that ended because nobody paid is not sold any more.
    """
    with talking() as api:
        _leave_schedule(api, subscription)
        try:
            api.subscriptions.cancel(subscription.id, {"invoice_now": not forgive, "prorate": give_back})
        except stripe.InvalidRequestError as error:
            if error.code != "resource_missing":
                raise
        if forgive:
            for invoice in api.invoices.list({"subscription": subscription.id, "status": "open"}).data:
                api.invoices.void_invoice(invoice.id)


def keep(subscription: Subscription, *, once: str) -> None:
    """Take a cancellation or a planned downgrade back."""
    with talking() as api:
        _leave_schedule(api, subscription)
        api.subscriptions.update(
            subscription.id, _without_end(subscription), once_for(f"keep:{subscription.id}:{once}")
        )


def set_seats(subscription: Subscription, *, seat_key: str, seats: int, once: str) -> None:
    """Have so many seats beyond the plan's: more are invoiced now for the rest of the month, fewer are set off."""
    with talking() as api:
        _leave_schedule(api, subscription)  # its last phase goes on for a month after a smaller plan began
        there = api.subscriptions.retrieve(subscription.id)["items"].data
        item = next((each for each in there if is_seat(each.price)), None)
        if item is None:
            change = {"price": prices_of(api, [seat_key])[0].id, "quantity": seats}
        elif seats:
            change = {"id": item.id, "quantity": seats}
        else:
            change = {"id": item.id, "deleted": True}
        params: dict[str, Any] = {
            "items": [change],
            "proration_behavior": "always_invoice" if seats > subscription.seats else "create_prorations",
            "payment_behavior": "error_if_incomplete",
        }
        api.subscriptions.update(subscription.id, params, once_for(f"seats:{subscription.id}:{once}"))  # type: ignore[arg-type]


def _exchange(api: Any, subscription: Subscription, wanted: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return items that turn those of a subscription into `wanted`: the old ones go, the new ones come."""
    there = api.subscriptions.retrieve(subscription.id)["items"].data
    plan = next(item for item in there if is_plan(item.price))
    gone = [{"id": item.id, "deleted": True} for item in there if item is not plan]
    return [{"id": plan.id, **wanted[0]}, *gone, *wanted[1:]]


def _without_end(subscription: Subscription) -> Any:
    return {"cancel_at": ""} if subscription.has_end_date else {"cancel_at_period_end": False}


def _leave_schedule(api: Any, subscription: Subscription) -> None:
    """A subscription under a schedule refuses changes of its own: let go of the schedule first."""
    if subscription.schedule:
        api.subscription_schedules.release(subscription.schedule)
