"""The plans that an installation begins with. Operators change them in the admin; the rows are the truth."""

from __future__ import annotations

import logging
from typing import Any

from django.conf import settings

from billing.models import Plan

log = logging.getLogger(__name__)

UNLIMITED = "unlimited"


GB = 1024**3

# Everything that is not said is without limit, and included.
SEEDS: tuple[dict[str, Any], ...] = (
    {
        "key": "free",
        "name": "Free",
        "position": 0,
        "price_cents": 0,
        "trainings_a_month": 3,
        "gpu_seconds_a_month": 60 * 60,
        "stored_bytes": 2 * GB,
        "seats": 1,
        "running_trainings": 1,
        "queued_trainings": 2,
        "steps_per_training": 2_000,
        "pictures_per_dataset": 100,
        "retention_days": 14,
        "has_api": False,
        "has_all_base_models": False,
    },
    {
        "key": "pro",
        "name": "Pro",
        "position": 1,
        "price_cents": 2_400,
        "trial_days": 7,
        "gpu_seconds_a_month": 300 * 60,
        "overage_cents_an_hour": 300,
        "stored_bytes": 50 * GB,
        "seats": 3,
        "seat_cents": 1_000,
        "running_trainings": 2,
        "queued_trainings": 10,
        "steps_per_training": 6_000,
        "pictures_per_dataset": 500,
        "retention_days": 180,
        "boost_seconds": 30 * 60,
        "weight": 2,
    },
    {
        "key": "team",
        "name": "Team",
        "position": 2,
        "price_cents": 9_900,
        "gpu_seconds_a_month": 1_500 * 60,
        "overage_cents_an_hour": 250,
        "stored_bytes": 500 * GB,
        "seats": 10,
        "seat_cents": 900,
        "running_trainings": 5,
        "queued_trainings": 50,
        "steps_per_training": 10_000,
        "pictures_per_dataset": 2_000,
        "retention_days": 365,
        "boost_seconds": 2 * 60 * 60,
        "weight": 4,
        "is_preemptible": False,
        "may_preempt": True,
    },
    {
        "key": "enterprise",
        "name": "Enterprise",
        "position": 3,
        "running_trainings": 32,
        "queued_trainings": 500,
        "boost_seconds": 6 * 60 * 60,
        "weight": 8,
        "is_preemptible": False,
        "may_preempt": True,
    },
    {"key": UNLIMITED, "name": "Unlimited", "position": 9, "is_on_sale": False},
)


# Top-ups: GPU seconds for cents.
TOP_UPS: tuple[dict[str, Any], ...] = (
    {"key": "gpu-60", "seconds": 60 * 60, "price_cents": 400},
    {"key": "gpu-300", "seconds": 300 * 60, "price_cents": 1_800},
    {"key": "gpu-1500", "seconds": 1_500 * 60, "price_cents": 8_000},
)


def default_plan() -> Plan:
    """Return the plan of teams that chose none (`LF_DEFAULT_PLAN`).

    A name that no plan has stops no page: the smallest plan counts then, and the log says so.
    """
    plan = Plan.objects.filter(key=settings.DEFAULT_PLAN).first()
    if plan is None:
        seed = next((each for each in SEEDS if each["key"] == settings.DEFAULT_PLAN), None)
        if seed is not None:  # a table that was emptied
            return Plan.objects.get_or_create(key=seed["key"], defaults=seed)[0]
        log.error("LF_DEFAULT_PLAN is %r, and there is no such plan", settings.DEFAULT_PLAN)
        plan = Plan.objects.first() or Plan.objects.get_or_create(key=SEEDS[0]["key"], defaults=SEEDS[0])[0]
    return plan
