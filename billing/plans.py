"""The plans that an installation begins with. Operators change them in the admin; the rows are the truth."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from django.conf import settings

from billing.models import Plan

UNLIMITED = "unlimited"


@dataclass(frozen=True, slots=True)
class Seed:
    """Be the first values of a plan; None means no limit."""

    key: str
    name: str
    retention_days: int | None = None


SEEDS = (
    Seed("free", "Free", retention_days=14),
    Seed("pro", "Pro", retention_days=180),
    Seed("team", "Team", retention_days=365),
    Seed("enterprise", "Enterprise"),
    Seed(UNLIMITED, "Unlimited"),
)


def default_plan() -> Plan:
    """Return the plan of teams that chose none (`LF_DEFAULT_PLAN`); make it if somebody deleted it."""
    plan = Plan.objects.filter(key=settings.DEFAULT_PLAN).first()
    if plan is None:
        seed = next((each for each in SEEDS if each.key == settings.DEFAULT_PLAN), None)
        if seed is None:
            raise LookupError(f"LF_DEFAULT_PLAN is {settings.DEFAULT_PLAN!r}, and there is no such plan.")
        plan, _made = Plan.objects.get_or_create(key=seed.key, defaults=asdict(seed))
    return plan
