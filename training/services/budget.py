"""Say before a start what it takes of the team's plan, and what of the plan stands in its way."""

from __future__ import annotations

import math
from dataclasses import dataclass

from django.utils.translation import gettext as _

from accounts.models import Team
from billing.entitlements import plan_of
from billing.services.ledger import Funds, funds_of, shortage
from core.quotas import Answer, answer, has_feature
from training.advisor.problems import Problem
from training.models import FoundationModel
from training.services.estimates import Estimate
from training.services.metering import reserved_for


@dataclass(frozen=True, slots=True)
class Budget:
    """Hold what a start reserves and is likely charged, in seconds, what there is, and what of it would be invoiced.

    `funds` is None where GPU time is not metered.
    """

    reserve: int
    funds: Funds | None
    invoiced_cents: int
    problems: list[Problem]
    charged: int = 0


def budget_for(team: Team, base: FoundationModel, estimate: Estimate, *, rate: float = 1.0) -> Budget:
    """Return the budget of a run, with each limit it would meet as a problem that stops the start.

    Each second is charged as `rate` seconds.
    """
    answers = [
        answer(team, "trainings_a_month"),
        answer(team, "queued_trainings"),
        answer(team, "steps_per_training", adding=estimate.steps),
    ]
    problems = [_problem(each) for each in answers if not each.is_allowed]
    if not base.is_standard and not has_feature(team, "all_base_models"):
        words = _("“%(name)s” is not part of your plan. Choose another base model.") % {"name": base.name}
        problems.append(Problem("plan_feature_required", "error", words))
    plan = plan_of(team)
    if not plan.is_metered:
        return Budget(0, None, 0, problems)
    charged = math.ceil(estimate.seconds * rate)
    reserve, funds = reserved_for(estimate.seconds, rate), funds_of(team)
    if reserve > funds.total:
        problems.append(Problem("insufficient_credits", "error", shortage(team, reserve, funds).message))
    beyond = max(0, charged - funds.allowance - funds.bought)
    cents = math.ceil(beyond * (plan.overage_cents_an_hour or 0) / 3600)
    return Budget(reserve, funds, cents, problems, charged)


def _problem(reached: Answer) -> Problem:
    return Problem(reached.meter.name, "error", reached.words)
