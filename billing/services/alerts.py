"""Say once a month when 80, 95 and 100 percent of an allowance or a spend limit are used."""

from __future__ import annotations

from accounts.models import Team
from billing.balances import allowance_of_month, balances_of, overage_this_month
from billing.entitlements import month_of, plan_of, spend_limit_seconds
from billing.models import Account, LimitAlert
from billing.services.tell import tell_limit

PERCENTS = (80, 95, 100)


def alert(team: Team) -> None:
    """Tell what was reached and not told this month yet; call under the team's lock, after seconds were used."""
    if plan_of(team).is_metered and (allowance := allowance_of_month(team)):
        balances = balances_of(team)
        left = balances[Account.ALLOWANCE] + balances[Account.HELD_ALLOWANCE]
        _tell(team, "allowance", 100 * (allowance - left) // allowance)
    limit = spend_limit_seconds(team)
    if limit:
        _tell(team, "spend_limit", 100 * overage_this_month(team) // limit)


def _tell(team: Team, what: str, used: int) -> None:
    reached = [percent for percent in PERCENTS if used >= percent]
    if not reached:
        return
    month = month_of()[0].date()
    rows = LimitAlert.objects.for_team(team).filter(month=month, what=what)
    told = rows.order_by("-percent").values_list("percent", flat=True).first() or 0
    if reached[-1] > told:
        LimitAlert.objects.create(team=team, month=month, what=what, percent=reached[-1])
        tell_limit(team, what, reached[-1])
