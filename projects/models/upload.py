"""A resumable upload (tus) and what became of each file in it."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from core.ids import UidField
from core.tenancy.constraints import tenant_constraints
from core.tenancy.models import TenantModel
from projects.reasons import retell


class UploadState(models.TextChoices):
    RECEIVING = "receiving", _("Uploading")
    PROCESSING = "processing", _("Checking")
    DONE = "done", _("Done")


class Upload(TenantModel):
    """Bytes on their way into a dataset: one picture, one caption file or one zip."""

    uid = UidField("upl")
    dataset = models.ForeignKey("projects.Dataset", on_delete=models.CASCADE, related_name="uploads")
    filename = models.CharField(max_length=255)
    size = models.PositiveBigIntegerField()
    # `offset` bytes have arrived, in `parts` stored parts; both change together under the row's lock.
    offset = models.PositiveBigIntegerField(default=0)
    parts = models.PositiveIntegerField(default=0)
    state = models.CharField(max_length=12, choices=UploadState.choices, default=UploadState.RECEIVING)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    expires_at = models.DateTimeField()
    # Who looks at its files (`projects.services.claims`), and how many were killed in a row while they did.
    claim = models.UUIDField(null=True, editable=False)
    claimed_until = models.DateTimeField(null=True, editable=False)
    kills = models.PositiveSmallIntegerField(db_default=0, editable=False)

    class Meta(TenantModel.Meta):
        constraints = [
            *tenant_constraints("projects_upload", "dataset"),
            models.CheckConstraint(
                condition=models.Q(offset__lte=models.F("size")), name="projects_upload_offset"
            ),
        ]
        indexes = [
            models.Index(
                fields=["expires_at"], condition=~models.Q(state="done"), name="projects_upload_unfinished"
            )
        ]

    def __str__(self) -> str:
        return self.filename


class UploadOutcome(models.TextChoices):
    ADDED = "added", _("Added")
    DUPLICATE = "duplicate", _("Already here")
    CAPTION = "caption", _("Caption read")
    SKIPPED = "skipped", _("Skipped")
    REFUSED = "refused", _("Refused")


class UploadedFile(TenantModel):
    """The result for one file of an upload (a zip has many), with the reason if it was refused.

    `position` numbers the files of an upload, so that a second run of the same work adds nothing. A caption that
    came before its picture waits here: `caption` and `stem` are set and `item` is empty.
    """

    upload = models.ForeignKey(Upload, on_delete=models.CASCADE, related_name="files")
    position = models.PositiveIntegerField(default=0)
    item = models.ForeignKey("projects.Item", null=True, on_delete=models.SET_NULL, related_name="+")
    filename = models.CharField(max_length=255)
    outcome = models.CharField(max_length=10, choices=UploadOutcome.choices)
    code = models.CharField(max_length=40, blank=True)
    message = models.CharField(max_length=400, blank=True)
    stem = models.CharField(max_length=255, blank=True)
    caption = models.TextField(blank=True)

    class Meta(TenantModel.Meta):
        constraints = [
            *tenant_constraints("projects_uploadedfile", "upload", "item"),
            models.UniqueConstraint(fields=["upload", "position"], name="projects_uploadedfile_position"),
        ]
        indexes = [
            models.Index(
                fields=["team", "stem"],
                condition=models.Q(outcome="caption", item__isnull=True),
                name="projects_caption_waiting",
            )
        ]
        ordering = ["position"]

    def __str__(self) -> str:
        return f"{self.filename}: {self.outcome}"

    @property
    def reason(self) -> str:
        """Give the reason in the reader's language; `message` is in that of whoever uploaded."""
        return retell(self.code, self.message)
