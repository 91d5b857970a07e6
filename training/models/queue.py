"""What the queue keeps beside its jobs: the operator's constants, and how much each team used of late."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.core.validators import MinValueValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from core.tenancy.constraints import tenant_constraints
from core.tenancy.models import TenantModel
from training.queue.policy import Rules

_USUAL = Rules()


class QueueSettings(models.Model):
    """Hold the constants of the order and of preemption. One row; plans hold what differs between teams."""

    half_life_days = models.FloatField(
        _("half-life of use, in days"),
        default=_USUAL.half_life / 86_400,
        validators=[MinValueValidator(0.01)],
        help_text=_("GPU time used so long ago counts half."),
    )
    seconds_per_gpu_hour = models.FloatField(
        _("seconds back for each GPU hour of late"),
        default=_USUAL.per_gpu_hour,
        validators=[MinValueValidator(0)],
        help_text=_("Divided by the plan's weight."),
    )
    longest_for_use = models.FloatField(
        _("most seconds back for use"), default=_USUAL.longest_for_use, validators=[MinValueValidator(0)]
    )
    seconds_per_running_job = models.FloatField(
        _("seconds back for each running job"),
        default=_USUAL.per_running_job,
        validators=[MinValueValidator(0)],
        help_text=_("Divided by the plan's weight."),
    )
    misfit_seconds = models.FloatField(
        _("seconds back on a GPU that is larger than needed"),
        default=_USUAL.misfit,
        validators=[MinValueValidator(0)],
    )
    preempt_after = models.FloatField(
        _("seconds a job waits before it may preempt"),
        default=_USUAL.preempt_after,
        validators=[MinValueValidator(0)],
    )
    preempt_if_free_within = models.FloatField(
        _("no preemption where a slot is free within (seconds)"),
        default=_USUAL.preempt_if_free_within,
        validators=[MinValueValidator(0)],
    )
    least_run = models.FloatField(
        _("seconds a job runs at least before it is preempted"),
        default=_USUAL.least_run,
        validators=[MinValueValidator(0)],
    )
    least_left = models.FloatField(
        _("no preemption of a job with less left than (seconds)"),
        default=_USUAL.least_left,
        validators=[MinValueValidator(0)],
    )
    most_preemptions_a_day = models.PositiveSmallIntegerField(
        _("most preemptions of a job a day"), default=_USUAL.most_preemptions_a_day
    )
    reserved_for = models.FloatField(
        _("seconds a slot stays reserved"), default=_USUAL.reserved_for, validators=[MinValueValidator(1)]
    )

    short_boost = models.FloatField(
        _("head start of short work in seconds"),
        default=_USUAL.short_boost,
        db_default=_USUAL.short_boost,
        validators=[MinValueValidator(0)],
        help_text=_("Pictures to draw and the like, before trainings of the same plan."),
    )
    short_waits = models.FloatField(
        _("seconds short work waits before a training lets it pass"),
        default=_USUAL.short_waits,
        db_default=_USUAL.short_waits,
        validators=[MinValueValidator(0)],
    )
    short_if_free_within = models.FloatField(
        _("no training lets short work pass where a slot is free within (seconds)"),
        default=_USUAL.short_if_free_within,
        db_default=_USUAL.short_if_free_within,
        validators=[MinValueValidator(0)],
    )
    least_run_for_short = models.FloatField(
        _("seconds a training runs at least before it lets short work pass"),
        default=_USUAL.least_run_for_short,
        db_default=_USUAL.least_run_for_short,
        validators=[MinValueValidator(0)],
    )

    express_boost = models.FloatField(
        _("head start of express trainings in seconds"),
        default=_USUAL.express_boost,
        db_default=_USUAL.express_boost,
        validators=[MinValueValidator(0)],
        help_text=_("Only plans that pay by GPU time may ask for it."),
    )
    express_rate = models.FloatField(
        _("rate of express trainings"),
        default=_USUAL.express_rate,
        db_default=_USUAL.express_rate,
        validators=[MinValueValidator(1)],
        help_text=_("What a second of an express training is charged as."),
    )

    hold_for = models.FloatField(
        _("seconds a machine holds slots back for a training on several GPUs"),
        default=_USUAL.hold_for,
        db_default=_USUAL.hold_for,
        validators=[MinValueValidator(1)],
        help_text=_("Then it takes other jobs for as long. Choose more than most trainings take."),
    )

    class Meta:
        verbose_name = verbose_name_plural = _("queue settings")
        constraints = [models.CheckConstraint(condition=models.Q(pk=1), name="training_queuesettings_one")]

    def __str__(self) -> str:
        return str(_("Queue settings"))

    def rules(self) -> Rules:
        """Return the constants as the policy takes them."""
        return Rules(
            half_life=self.half_life_days * 86_400,
            per_gpu_hour=self.seconds_per_gpu_hour,
            longest_for_use=self.longest_for_use,
            per_running_job=self.seconds_per_running_job,
            misfit=self.misfit_seconds,
            preempt_after=self.preempt_after,
            preempt_if_free_within=self.preempt_if_free_within,
            least_run=self.least_run,
            least_left=self.least_left,
            most_preemptions_a_day=self.most_preemptions_a_day,
            reserved_for=self.reserved_for,
            short_boost=self.short_boost,
            short_waits=self.short_waits,
            short_if_free_within=self.short_if_free_within,
            least_run_for_short=self.least_run_for_short,
            express_boost=self.express_boost,
            express_rate=self.express_rate,
            hold_for=self.hold_for,
        )


class TeamUsage(TenantModel):
    """Hold a team's GPU seconds as they counted at `as_of`; they halve with each half-life after it."""

    seconds = models.FloatField(default=0)
    as_of = models.DateTimeField()

    class Meta(TenantModel.Meta):
        constraints = [
            *tenant_constraints("training_teamusage"),
            models.UniqueConstraint(fields=["team"], name="training_teamusage_team"),
            models.CheckConstraint(condition=models.Q(seconds__gte=0), name="training_teamusage_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.team}: {self.seconds:.0f} s"


class QueueLook(models.Model):
    """Hold the clock's last look at the whole queue: some of its points, to place jobs into it. One row.

    Parallel arrays in order of scores: the score, the place in the queue, the seconds until that job starts.
    """

    at = models.DateTimeField(auto_now=True)
    spread = models.FloatField(default=1.5)
    last_wait = models.FloatField(default=0)
    scores = ArrayField(models.FloatField(), default=list)
    places = ArrayField(models.PositiveIntegerField(), default=list)
    waits = ArrayField(models.FloatField(), default=list)

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(pk=1), name="training_queuelook_one")]

    def __str__(self) -> str:
        return f"{self.at}"
