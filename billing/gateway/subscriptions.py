"""Subscriptions: what there is, and every change of one."""

from __future__ import annotations

from typing import Any

from billing.gateway.talking import once_for, prices_of, talking
from billing.stripe_rows import Subscription, is_metered, subscription_of


def subscriptions_of(customer: str) -> list[Subscription]:
    """Return every subscription of a customer, ended ones too, the newest first."""
    with talking() as api:
        found = api.subscriptions.list({"customer": customer, "status": "all", "limit": 100})
        return sorted((subscription_of(each) for each in found.data), key=lambda each: -each.created)


def upgrade(subscription: Subscription, *, price_key: str, overage_key: str | None, once: str) -> None:
    """Move to a larger plan at once; what is left of the month is set off and the difference invoiced now."""
    with talking() as api:
        _leave_schedule(api, subscription)
        wanted = prices_of(api, [price_key, *([overage_key] if overage_key else [])])
        params: dict[str, Any] = {
            "items": _exchange(api, subscription, wanted),
            "proration_behavior": "always_invoice",
            "cancel_at_period_end": False,
            # A card that is declined changes nothing, and a trial of a small plan is none of a large one.
            "payment_behavior": "error_if_incomplete",
        }
        if subscription.status == "trialing":
            params["trial_end"] = "now"
        api.subscriptions.update(subscription.id, params, once_for(f"upgrade:{subscription.id}:{once}"))  # type: ignore[arg-type]


def downgrade(subscription: Subscription, *, price_key: str, overage_key: str | None, once: str) -> None:
    """Move to a smaller plan when the month that is paid has ended."""
    with talking() as api:
        _leave_schedule(api, subscription)
        if subscription.ends_at_period_end:
            api.subscriptions.update(subscription.id, {"cancel_at_period_end": False})
        wanted = prices_of(api, [price_key, *([overage_key] if overage_key else [])])
        schedule = api.subscription_schedules.create(
            {"from_subscription": subscription.id},
            once_for(f"schedule:{subscription.id}:{subscription.schedule}:{once}"),
        )
        now = schedule.phases[0]
        kept = [_line(str(item.price)) for item in now["items"]]
        phases: list[Any] = [
            {"items": kept, "start_date": now.start_date, "end_date": now.end_date},
            {"items": [_line(each.id) for each in wanted], "proration_behavior": "none"},
        ]
        metered = {each.id for each in wanted if is_metered(each)} | _metered_items(api, subscription)
        for phase in phases:
            for line in phase["items"]:
                if line["price"] in metered:
                    line.pop("quantity")
        params: dict[str, Any] = {"end_behavior": "release", "phases": phases}
        api.subscription_schedules.update(schedule.id, params, once_for(f"phases:{schedule.id}:{once}"))  # type: ignore[arg-type]


def cancel(subscription: Subscription, *, once: str) -> None:
    """End a subscription when the month that is paid has ended."""
    with talking() as api:
        _leave_schedule(api, subscription)
        api.subscriptions.update(
            subscription.id, {"cancel_at_period_end": True}, once_for(f"cancel:{subscription.id}:{once}")
        )


def end_now(subscription: Subscription) -> None:
    """End a subscription at once; one that has ended already stays so."""
    with talking() as api:
        _leave_schedule(api, subscription)
        api.subscriptions.cancel(subscription.id)


def keep(subscription: Subscription, *, once: str) -> None:
    """Take a cancellation or a planned downgrade back."""
    with talking() as api:
        _leave_schedule(api, subscription)
        api.subscriptions.update(
            subscription.id, {"cancel_at_period_end": False}, once_for(f"keep:{subscription.id}:{once}")
        )


def _exchange(api: Any, subscription: Subscription, wanted: list[Any]) -> list[dict[str, Any]]:
    """Return items that turn those of a subscription into `wanted`: the old ones go, the new ones come."""
    there = api.subscriptions.retrieve(subscription.id)["items"].data
    fixed = next(item for item in there if not is_metered(item.price))
    items: list[dict[str, Any]] = [{"id": fixed.id, "price": wanted[0].id, "quantity": 1}]
    items += [
        {"id": item.id, "deleted": True, "clear_usage": False} for item in there if is_metered(item.price)
    ]
    return items + [{"price": each.id} for each in wanted[1:]]


def _metered_items(api: Any, subscription: Subscription) -> set[str]:
    there = api.subscriptions.retrieve(subscription.id)["items"].data
    return {str(item.price.id) for item in there if is_metered(item.price)}


def _line(price: str) -> dict[str, Any]:
    return {"price": price, "quantity": 1}


def _leave_schedule(api: Any, subscription: Subscription) -> None:
    """A subscription under a schedule refuses changes of its own: let go of the schedule first."""
    if subscription.schedule:
        api.subscription_schedules.release(subscription.schedule)
