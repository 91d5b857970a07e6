"""May this team do this much of that now, and if not, what would help? The one place that answers.

Each app registers its meters; the billing app registers the plans. Services `demand`, pages and the API show `answer`.

    register(Meter("seats", _("Seats"), used=seat_count, reached=_("All %(limit)s seats are taken.")))
    demand(team, "seats")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal, Protocol

from django.template.defaultfilters import filesizeformat
from django.utils.functional import Promise
from django.utils.translation import gettext as _

from core.errors import DomainError, QuotaExceeded

if TYPE_CHECKING:
    from accounts.models import Team

Unit = Literal["count", "bytes"]


def _none() -> int:
    return 0


@dataclass(frozen=True, slots=True)
class Meter:
    """Name one quota: what is counted, and the words when it is reached (with `used` and `limit` to fill in).

    `limit` is the installation's own limit where the plan sets none, 0 for no limit. `used` is None for a limit on
    each thing (steps of a training), whose measure the caller gives. `like` names the quota whose value in the plans
    this one shares.
    """

    name: str
    label: str | Promise
    reached: str | Promise
    used: Callable[[Team], int] | None = None
    limit: Callable[[], int] = _none
    is_monthly: bool = False
    unit: Unit = "count"
    like: str = ""

    @property
    def in_plans(self) -> str:
        """Give the name that plans know the quota by."""
        return self.like or self.name


class Plans(Protocol):
    """What the quotas ask of the billing app."""

    def limits(self, team: Team) -> Mapping[str, int | None]:
        """Return the limits of the team's plan by quota; None is no limit."""

    def resets_at(self, team: Team) -> datetime:
        """Return when what is counted by the month begins at 0 again."""

    def plan_for(self, quota: str, amount: int) -> str:
        """Return the name of the smallest plan on sale that allows `amount`, "" if none does."""

    def has(self, team: Team, feature: str) -> bool:
        """Tell whether the team's plan includes a feature."""

    def plan_with(self, feature: str) -> str:
        """Return the name of the smallest plan on sale that includes a feature, "" if none does."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Say how much is allowed, how much of it is used, when it begins anew, and which plan would allow more."""

    meter: Meter
    limit: int | None
    used: int
    adding: int
    resets_at: datetime | None
    plan: str

    @property
    def is_allowed(self) -> bool:
        return self.limit is None or self.used + self.adding <= self.limit

    @property
    def left(self) -> int | None:
        """Give what is left, None if there is no limit."""
        return None if self.limit is None else max(0, self.limit - self.used)

    @property
    def percent(self) -> int:
        """Give the share that is used, 0 to 100."""
        return 0 if self.limit is None else min(100, 100 * self.used // self.limit) if self.limit else 100

    @property
    def words(self) -> str:
        """Say in a sentence or two that the limit is reached and what would help."""
        told = str(self.meter.reached) % {
            "used": self._shown(self.used),
            "limit": self._shown(self.limit or 0),
        }
        return f"{told} {_more_on(self.plan)}" if self.plan else told

    def _shown(self, number: int) -> str:
        return str(filesizeformat(number)) if self.meter.unit == "bytes" else str(number)


class PlanFeatureRequired(DomainError):
    """Say that the team's plan does not include this."""

    status = 403


_meters: dict[str, Meter] = {}
_plans: list[Plans] = []


def register(meter: Meter) -> None:
    """Add a meter; the same name again replaces it."""
    _meters[meter.name] = meter


def use_plans(plans: Plans) -> None:
    """Have limits and features come from `plans` too."""
    _plans[:] = [plans]


def answers(team: Team) -> list[Answer]:
    """Return how the team stands with every quota, by name."""
    limits = _limits(team)
    return [_answer(team, _meters[name], limits, adding=0, used=None) for name in sorted(_meters)]


def answer(team: Team, quota: str, *, adding: int = 1, used: int | None = None) -> Answer:
    """Tell whether the team may use `adding` more of `quota`; `used` overrides what its meter counts."""
    return _answer(team, _meters[quota], _limits(team), adding=adding, used=used)


def demand(
    team: Team, quota: str, *, adding: int = 1, used: int | None = None, pointer: str | None = None
) -> None:
    """Raise QuotaExceeded unless the team may use `adding` more of `quota`.

    Exact only under the lock of the team's row (`Team.objects.select_for_update`) that also covers what is then added.
    """
    limits = _limits(team)
    if _limit(_meters[quota], limits) is None:
        return  # nothing to count, which may be much
    found = _answer(team, _meters[quota], limits, adding=adding, used=used)
    if not found.is_allowed:
        raise QuotaExceeded(
            "quota_exceeded",
            found.words,
            pointer=pointer,
            quota=quota,
            limit=found.limit,
            used=found.used,
            resets_at=found.resets_at,
            plan=found.plan or None,
        )


def has_feature(team: Team, feature: str) -> bool:
    """Tell whether the team's plan includes a feature."""
    return all(plans.has(team, feature) for plans in _plans)


def demand_feature(team: Team, feature: str, message: str, *, pointer: str | None = None) -> None:
    """Raise PlanFeatureRequired with `message` unless the team's plan includes a feature."""
    if not has_feature(team, feature):
        plan = next((found for plans in _plans if (found := plans.plan_with(feature))), "")
        words = f"{message} {_more_on(plan)}" if plan else message
        raise PlanFeatureRequired(
            "plan_feature_required", words, pointer=pointer, feature=feature, plan=plan or None
        )


def _more_on(plan: str) -> str:
    return _("The plan “%(plan)s” allows it.") % {"plan": plan}


def _limits(team: Team) -> Mapping[str, int | None]:
    return _plans[0].limits(team) if _plans else {}


def _limit(meter: Meter, limits: Mapping[str, int | None]) -> int | None:
    by_plan = limits.get(meter.in_plans)
    return by_plan if by_plan is not None else meter.limit() or None


def _answer(
    team: Team, meter: Meter, limits: Mapping[str, int | None], *, adding: int, used: int | None
) -> Answer:
    limit = _limit(meter, limits)
    if used is None:
        used = meter.used(team) if meter.used is not None else 0
    is_short = limit is not None and used + adding > limit
    # Another plan helps only where the plan is what limits.
    helps = is_short and limit == limits.get(meter.in_plans)
    return Answer(
        meter=meter,
        limit=limit,
        used=used,
        adding=adding,
        resets_at=_plans[0].resets_at(team) if meter.is_monthly and _plans else None,
        plan=_plans[0].plan_for(meter.in_plans, used + adding) if helps else "",
    )
