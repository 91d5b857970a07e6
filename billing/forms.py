"""Forms of the billing pages."""

from __future__ import annotations

from decimal import Decimal

from django import forms
from django.utils.translation import gettext_lazy as _

from billing.services.purchases import HIGHEST_LIMIT_CENTS, MOST_SEATS


class SpendLimitForm(forms.Form):
    """Ask what may be invoiced a month, in whole units of the currency."""

    amount = forms.DecimalField(
        label=_("Spend limit a month (US$)"),
        min_value=Decimal(0),
        max_value=Decimal(HIGHEST_LIMIT_CENTS // 100),
        max_digits=8,
        decimal_places=2,
        help_text=_("0: nothing is invoiced beyond the plan; trainings rest when the GPU time is used up."),
    )

    @property
    def cents(self) -> int:
        """Give the amount in cents."""
        return int(self.cleaned_data["amount"] * 100)


class SeatsForm(forms.Form):
    """Ask how many seats a team pays for beyond those of its plan."""

    seats = forms.IntegerField(label=_("Further seats"), min_value=0, max_value=MOST_SEATS)
