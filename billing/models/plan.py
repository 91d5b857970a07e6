"""Plans, and which of them a team is on."""

from __future__ import annotations

from django.core.validators import MinValueValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from core.tenancy.constraints import tenant_constraints
from core.tenancy.models import TenantModel


class Plan(models.Model):
    """What a team on this plan may use. An empty limit means that there is none.

    The limits are named like the quotas of `core.quotas`.
    """

    key = models.SlugField(_("key"), max_length=40, unique=True)
    name = models.CharField(_("name"), max_length=80)
    position = models.PositiveSmallIntegerField(
        _("position"), default=0, help_text=_("The smallest plan comes first.")
    )
    is_on_sale = models.BooleanField(_("on sale"), default=True, help_text=_("Shown on the page of prices."))
    price_cents = models.PositiveIntegerField(
        _("price a month, in cents"), null=True, blank=True, help_text=_("Empty: by agreement.")
    )
    trial_days = models.PositiveSmallIntegerField(_("days of trial"), default=0)

    trainings_a_month = models.PositiveIntegerField(_("trainings a month"), null=True, blank=True)
    gpu_seconds_a_month = models.PositiveIntegerField(
        _("GPU seconds a month"),
        null=True,
        blank=True,
        help_text=_("Empty: what is used is noted and never charged."),
    )
    overage_cents_an_hour = models.PositiveIntegerField(
        _("price of a further GPU hour, in cents"),
        null=True,
        blank=True,
        help_text=_("Charged with the next invoice up to the team's own spend limit. Empty: only top-ups."),
    )
    stored_bytes = models.PositiveBigIntegerField(_("storage in bytes"), null=True, blank=True)
    seats = models.PositiveIntegerField(_("seats"), null=True, blank=True)
    seat_cents = models.PositiveIntegerField(
        _("price of a further seat a month, in cents"),
        null=True,
        blank=True,
        help_text=_("Empty: no more seats than the plan has."),
    )
    running_trainings = models.PositiveIntegerField(_("trainings at once"), null=True, blank=True)
    queued_trainings = models.PositiveIntegerField(_("trainings waiting"), null=True, blank=True)
    steps_per_training = models.PositiveIntegerField(_("steps of a training"), null=True, blank=True)
    pictures_per_dataset = models.PositiveIntegerField(_("pictures in a set"), null=True, blank=True)
    retention_days = models.PositiveIntegerField(
        _("days earlier checkpoints are kept"),
        null=True,
        blank=True,
        help_text=_(
            "After the end of their training. The finished file stays. Empty: until somebody deletes them."
        ),
    )
    has_api = models.BooleanField(
        _("API that changes things"), default=True, help_text=_("Without it, keys and tokens may only read.")
    )
    has_all_base_models = models.BooleanField(_("every base model"), default=True)

    # The queue: `training.queue.policy` says how they act.
    boost_seconds = models.PositiveIntegerField(
        _("head start in the queue, in seconds"),
        default=0,
        help_text=_("A job counts as if it had waited so much longer."),
    )
    weight = models.PositiveSmallIntegerField(
        _("weight in the queue"),
        default=1,
        validators=[MinValueValidator(1)],
        help_text=_("The share of a busy queue."),
    )

    is_preemptible = models.BooleanField(
        _("makes room"),
        default=True,
        db_default=True,
        help_text=_("Its running jobs save and wait again when a larger plan's job finds no place."),
    )
    may_preempt = models.BooleanField(
        _("may take the place of smaller plans"), default=False, db_default=False
    )

    class Meta:
        verbose_name = _("plan")
        verbose_name_plural = _("plans")
        ordering = ["position", "pk"]
        constraints = [models.CheckConstraint(condition=models.Q(weight__gte=1), name="billing_plan_weight")]

    def __str__(self) -> str:
        return self.name

    @property
    def is_metered(self) -> bool:
        """Tell whether GPU time is counted against an allowance."""
        return self.gpu_seconds_a_month is not None


class TopUp(models.Model):
    """GPU time that can be bought beside a plan; it never lapses."""

    key = models.SlugField(_("key"), max_length=40, unique=True)
    seconds = models.PositiveIntegerField(_("GPU seconds"))
    price_cents = models.PositiveIntegerField(_("price, in cents"))
    is_on_sale = models.BooleanField(_("on sale"), default=True)

    class Meta:
        verbose_name = _("top-up")
        verbose_name_plural = _("top-ups")
        ordering = ["seconds"]

    def __str__(self) -> str:
        return self.key

    @property
    def minutes(self) -> int:
        """Give the GPU time in minutes."""
        return self.seconds // 60


class BillingAccount(TenantModel):
    """The plan of a team. A team without a row is on the installation's default plan."""

    plan = models.ForeignKey(Plan, verbose_name=_("plan"), on_delete=models.PROTECT, related_name="+")
    # What the team lets itself be invoiced in a month beyond allowance and top-ups. 0: nothing, its trainings pause.
    spend_limit_cents = models.PositiveIntegerField(_("spend limit a month, in cents"), default=0)

    # What Stripe said last (`billing.services.subscriptions` alone writes these); empty without a subscription.
    stripe_customer = models.CharField(max_length=64, blank=True)
    subscription = models.CharField(max_length=64, blank=True)
    status = models.CharField(_("status"), max_length=24, blank=True)
    period_end = models.DateTimeField(_("period end"), null=True, blank=True)
    trial_end = models.DateTimeField(null=True, blank=True)
    ends_at_period_end = models.BooleanField(default=False)
    next_plan = models.ForeignKey(Plan, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    extra_seats = models.PositiveIntegerField(default=0, db_default=0)
    past_due_since = models.DateTimeField(_("past due since"), null=True, blank=True)
    past_due_reminded_at = models.DateTimeField(null=True, blank=True)
    # Counts what was written of Stripe's answers: an answer that was asked for before the last one is asked for again.
    refreshes = models.PositiveIntegerField(default=0, db_default=0)
    # Nothing is forgotten before, whatever the plan says now.
    data_kept_until = models.DateTimeField(null=True, blank=True)

    class Meta(TenantModel.Meta):
        verbose_name = _("billing account")
        verbose_name_plural = _("billing accounts")
        constraints = [
            *tenant_constraints("billing_account"),
            models.UniqueConstraint(fields=["team"], name="billing_account_team"),
            models.UniqueConstraint(
                fields=["stripe_customer"],
                condition=~models.Q(stripe_customer=""),
                name="billing_account_customer",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.team}: {self.plan}"
