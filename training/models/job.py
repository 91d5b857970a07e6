"""A training job: the row is the truth of the queue. See docs/queue for the protocol around it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q, Value
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from core.ids import UidField
from core.tenancy.constraints import tenant_constraints
from core.tenancy.models import TenantManager, TenantModel, TenantQuerySet
from training.kinds import JobKind
from training.states import LIVE, TERMINAL, Desired, JobState, RestReason, Simulated, WaitsFor, is_terminal

if TYPE_CHECKING:
    from accounts.models import Team
    from projects.models import DatasetVersion
    from training.models.foundation import FoundationModel

_LIVE = sorted(LIVE)
_TERMINAL = sorted(TERMINAL)


class TrainingManager(TenantManager):
    """Give trainings only, which is what people mean; `TrainingJob.jobs` gives work of every kind."""

    def for_team(self, team: Team) -> TenantQuerySet:
        return super().for_team(team).filter(kind=JobKind.TRAINING)


class TrainingJob(TenantModel):
    uid = UidField("trn")
    kind = models.CharField(
        _("kind"),
        max_length=12,
        choices=JobKind.choices,
        default=JobKind.TRAINING,
        db_default=JobKind.TRAINING,
    )
    # Short work has a line of its own in each team's queue: see `training.queue.policy`.
    is_short = models.BooleanField(_("short work"), default=False, db_default=False)
    project = models.ForeignKey(
        "projects.Project", verbose_name=_("project"), on_delete=models.CASCADE, related_name="trainings"
    )
    # Only short work does without.
    dataset_version = models.ForeignKey(
        "projects.DatasetVersion",
        verbose_name=_("dataset version"),
        null=True,
        on_delete=models.PROTECT,
        related_name="trainings",
    )
    # Only captions are written without one.
    foundation_model = models.ForeignKey(
        "training.FoundationModel",
        verbose_name=_("base model"),
        null=True,
        on_delete=models.PROTECT,
        related_name="trainings",
    )
    name = models.CharField(_("name"), max_length=80)
    template = models.CharField(_("template"), max_length=20)
    # What the engine is told as a dict: a RunSpec (training.engine.spec), or by `kind` another of the engine's
    # specifications. The worker fills in paths when it starts.
    spec = models.JSONField(_("recipe"))
    spec_sha256 = models.CharField(_("spec sha256"), max_length=64)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("created by"),
        null=True,
        on_delete=models.SET_NULL,
        related_name="+",
    )
    retry_of = models.ForeignKey(
        "self", verbose_name=_("retry of"), null=True, on_delete=models.SET_NULL, related_name="retries"
    )
    # The caller's own notes: short texts by name (projects.api.serializers.MetadataField).
    metadata = models.JSONField(_("metadata"), default=dict, db_default=Value({}, models.JSONField()))
    # Of a test key: carried out by `training.simulated` with this outcome, never by a worker, never billed.
    is_test = models.BooleanField(_("of a test key"), default=False, db_default=False)
    simulate = models.CharField(
        _("simulated end"), max_length=20, choices=Simulated.choices, blank=True, db_default=""
    )

    # Queue. `fence` rises at each claim and each reap; every write of a worker names the fence it holds.
    state = models.CharField(_("state"), max_length=10, choices=JobState.choices, default=JobState.QUEUED)
    desired = models.CharField(_("desired"), max_length=10, choices=Desired.choices, blank=True)
    fence = models.PositiveIntegerField(_("fence"), default=0)
    crashes = models.PositiveSmallIntegerField(_("crashes"), default=0)
    worker = models.ForeignKey(
        "training.Worker", verbose_name=_("worker"), null=True, on_delete=models.SET_NULL, related_name="jobs"
    )
    lease_until = models.DateTimeField(_("lease until"), null=True)
    queued_at = models.DateTimeField(_("queued at"))
    # Its place in its team's line: when it was queued, less the head start that was paid for.
    line_at = models.DateTimeField(_("in line since"), db_default=Now())
    is_express = models.BooleanField(_("express"), default=False, db_default=False)
    # What a second of it is charged as; fixed when it is made.
    rate = models.FloatField(_("rate"), default=1.0, db_default=1.0)
    run_after = models.DateTimeField(_("not before"), null=True)
    estimated_seconds = models.PositiveIntegerField(_("estimated seconds"), default=0)
    # The class of GPU it needs, in GB (`training.queue.policy.GPU_CLASSES`); 0: a processor will do.
    gpu_gb = models.PositiveSmallIntegerField(_("GPU memory (GB)"), default=0, db_default=0)
    # How many slots of one machine it takes at once.
    gpus = models.PositiveSmallIntegerField(_("GPUs"), default=1, db_default=1)
    # Since when which machine holds free slots back for it until there are enough (`training.queue.gang`).
    held_since = models.DateTimeField(_("slots held since"), null=True)
    held_node = models.CharField(_("slots held on"), max_length=120, blank=True, default="", db_default="")
    # CPU threads the first attempt measured as fastest, 0 before that: another number adds up in another order, and
    # a run that was killed would not end with the weights of one that was not.
    threads = models.PositiveSmallIntegerField(_("CPU threads"), default=0, db_default=0)
    started_at = models.DateTimeField(_("started at"), null=True)
    finished_at = models.DateTimeField(_("finished at"), null=True)

    # What the clock foresees for a job that waits (`training.queue.outlook`); null before it looked.
    place = models.PositiveIntegerField(_("place"), null=True)
    expected_start = models.DateTimeField(_("expected start"), null=True)
    latest_start = models.DateTimeField(_("latest start"), null=True)
    waits_for = models.CharField(
        _("waits for"), max_length=10, choices=WaitsFor.choices, blank=True, db_default=""
    )

    # Money: never more than the cap is charged; `rest_reason` says why a job rests that nobody told to.
    hard_cap_seconds = models.PositiveIntegerField(_("hard cap seconds"), null=True)
    rest_reason = models.CharField(
        _("rest reason"), max_length=24, choices=RestReason.choices, blank=True, db_default=""
    )

    # Progress: the latest gauges, so that a list of jobs costs one query.
    phase = models.CharField(_("phase"), max_length=20, blank=True)
    phase_done = models.PositiveIntegerField(_("done of the phase"), default=0)
    phase_total = models.PositiveIntegerField(_("size of the phase"), default=0)
    step = models.PositiveIntegerField(_("step"), default=0)
    total_steps = models.PositiveIntegerField(_("total steps"), default=0)
    epoch = models.PositiveIntegerField(_("epoch"), default=0)
    loss = models.FloatField(_("loss"), null=True)
    steps_per_second = models.FloatField(_("steps per second"), null=True)
    eta_seconds = models.FloatField(_("seconds left"), null=True)
    last_seq = models.PositiveIntegerField(_("last seq"), default=0)
    # The three figures of `evaluation` (held-out loss, style distance, content), as the engine reported them; for an
    # evaluation those of each file (`training.findings.Findings`).
    evaluation = models.JSONField(_("evaluation"), null=True)

    error_code = models.CharField(_("error code"), max_length=60, blank=True)
    error_category = models.CharField(_("error category"), max_length=12, blank=True)
    error_message = models.TextField(_("error message"), blank=True)
    error_hint = models.TextField(_("error hint"), blank=True)
    # Changes of the spec that would help ({"training.batch_size": 4}), offered as a button.
    error_patch = models.JSONField(_("error patch"), null=True)

    lora_version = models.OneToOneField(
        "projects.LoraVersion",
        verbose_name=_("model version"),
        null=True,
        on_delete=models.SET_NULL,
        related_name="+",
    )

    objects: ClassVar[TenantManager] = TrainingManager()
    jobs: ClassVar[TenantManager] = TenantManager()
    unscoped: ClassVar[Any] = models.Manager.from_queryset(TenantQuerySet)()

    class Meta(TenantModel.Meta):
        verbose_name = _("job")
        verbose_name_plural = _("jobs")
        constraints = [
            *tenant_constraints("training_job", "project", "dataset_version", "retry_of", "lora_version"),
            models.CheckConstraint(
                condition=Q(state__in=_LIVE, lease_until__isnull=False)
                | (~Q(state__in=_LIVE) & Q(lease_until__isnull=True)),
                name="training_job_lease",
            ),
            models.CheckConstraint(
                condition=Q(state__in=_TERMINAL, finished_at__isnull=False)
                | (~Q(state__in=_TERMINAL) & Q(finished_at__isnull=True)),
                name="training_job_finished",
            ),
            models.CheckConstraint(
                condition=Q(kind=JobKind.TRAINING, is_short=False, dataset_version__isnull=False)
                | (~Q(kind=JobKind.TRAINING) & Q(is_short=True)),
                name="training_job_kind",
            ),
            models.CheckConstraint(
                condition=Q(kind=JobKind.CAPTIONING, foundation_model__isnull=True)
                | (~Q(kind=JobKind.CAPTIONING) & Q(foundation_model__isnull=False)),
                name="training_job_base",
            ),
            models.CheckConstraint(
                condition=Q(gpus=1) | Q(is_short=False, gpus__gt=1), name="training_job_gpus"
            ),
        ]
        indexes = [
            # The head of each of a team's two lines for each class of GPU: the claim probes it and nothing else.
            models.Index(
                fields=["team", "is_short", "gpu_gb", "line_at", "id"],
                condition=Q(state="queued", is_test=False),
                name="training_job_heads",
            ),
            models.Index(fields=["team"], condition=Q(state__in=_LIVE), name="training_job_live"),
            models.Index(fields=["finished_at"], name="training_job_finished_at"),
            models.Index(
                fields=["lease_until"], condition=Q(lease_until__isnull=False), name="training_job_leases"
            ),
            models.Index(fields=["team", "-created_at"], name="training_job_recent"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def priority(self) -> str:
        """Give the priority as the API names it."""
        return "express" if self.is_express else "standard"

    @property
    def pictures(self) -> DatasetVersion:
        """Give the pictures of a training; short work may have none."""
        if self.dataset_version is None:
            raise LookupError(f"{self.uid} has no pictures")
        return self.dataset_version

    @property
    def base(self) -> FoundationModel:
        """Give the base model; captions are written without one."""
        if self.foundation_model is None:
            raise LookupError(f"{self.uid} has no base model")
        return self.foundation_model

    @property
    def is_finished(self) -> bool:
        return is_terminal(self.state)

    @property
    def percent(self) -> int:
        """Give the share of steps (of pictures, for a generation) done, 0 to 100."""
        if self.state == JobState.SUCCEEDED:
            return 100
        return int(100 * self.step / self.total_steps) if self.total_steps else 0


class Attempt(TenantModel):
    """One run of a job by one worker; (job, fence) is unique, so that nothing is counted twice."""

    job = models.ForeignKey(TrainingJob, on_delete=models.CASCADE, related_name="attempts")
    fence = models.PositiveIntegerField(_("fence"))
    worker = models.ForeignKey(
        "training.Worker", verbose_name=_("worker"), null=True, on_delete=models.SET_NULL, related_name="+"
    )
    started_at = models.DateTimeField(_("started at"))
    ended_at = models.DateTimeField(_("ended at"), null=True)
    first_step = models.PositiveIntegerField(_("first step"), default=0)
    last_step = models.PositiveIntegerField(_("last step"), default=0)
    # GPU seconds that its team's place in the queue was charged with when it began (`training.queue.usage`).
    charged_seconds = models.FloatField(default=0, db_default=0)
    outcome = models.CharField(_("outcome"), max_length=20, blank=True)

    class Meta(TenantModel.Meta):
        verbose_name = _("attempt")
        verbose_name_plural = _("attempts")
        constraints = [
            *tenant_constraints("training_attempt", "job"),
            models.UniqueConstraint(fields=["job", "fence"], name="training_attempt_fence"),
        ]
        indexes = [
            models.Index(
                fields=["-ended_at"], condition=Q(outcome="succeeded"), name="training_attempt_good_ends"
            )
        ]
        ordering = ["fence"]

    def __str__(self) -> str:
        return f"{self.job} #{self.fence}"
