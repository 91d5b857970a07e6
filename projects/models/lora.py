"""The registry: a LoRA model of a project, its versions, and the files and samples of each version."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from core.ids import UidField
from core.tenancy.constraints import tenant_constraints
from core.tenancy.models import TenantModel


class LoraModel(TenantModel):
    uid = UidField("mdl")
    project = models.ForeignKey("projects.Project", on_delete=models.CASCADE, related_name="models")
    name = models.CharField(_("name"), max_length=80)
    description = models.TextField(_("description"), max_length=4000, blank=True)
    # The highest number ever given: a deleted version's number is not given again.
    last_number = models.PositiveIntegerField(default=0, db_default=0)

    class Meta(TenantModel.Meta):
        constraints = [
            *tenant_constraints("projects_loramodel", "project"),
            models.UniqueConstraint(fields=["project", "name"], name="projects_loramodel_name"),
        ]

    def __str__(self) -> str:
        return self.name


class LoraVersion(TenantModel):
    """What one training produced, with everything needed to make it again."""

    uid = UidField("mdv")
    model = models.ForeignKey(LoraModel, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    trigger_words = models.CharField(_("trigger words"), max_length=200, blank=True)
    # Provenance. The training lives in a higher layer, so it is named by its uid.
    training_uid = models.CharField(max_length=40, unique=True)
    dataset_version = models.ForeignKey(
        "projects.DatasetVersion", null=True, on_delete=models.SET_NULL, related_name="lora_versions"
    )
    base_model = models.CharField(max_length=100)
    base_sha256 = models.CharField(max_length=64)
    recipe_sha256 = models.CharField(max_length=64)
    seed = models.BigIntegerField()
    steps = models.PositiveIntegerField()
    rank = models.PositiveIntegerField()
    engine_version = models.CharField(max_length=40)
    verified_keys = models.PositiveIntegerField(_("keys verified"))
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )

    class Meta(TenantModel.Meta):
        constraints = [
            *tenant_constraints("projects_loraversion", "model", "dataset_version"),
            models.UniqueConstraint(fields=["model", "number"], name="projects_loraversion_number"),
        ]
        ordering = ["-number"]

    def __str__(self) -> str:
        return f"{self.model} v{self.number}"


class LoraFile(TenantModel):
    """A downloadable `.safetensors` of a version: the final one and one per kept checkpoint."""

    uid = UidField("lrf")
    version = models.ForeignKey(LoraVersion, on_delete=models.CASCADE, related_name="files")
    blob = models.ForeignKey("projects.Blob", on_delete=models.PROTECT, related_name="+")
    filename = models.CharField(max_length=255)
    step = models.PositiveIntegerField()
    epoch = models.PositiveIntegerField()
    is_final = models.BooleanField(default=False)

    class Meta(TenantModel.Meta):
        constraints = [
            *tenant_constraints("projects_lorafile", "version", "blob"),
            models.UniqueConstraint(fields=["version", "step", "is_final"], name="projects_lorafile_step"),
        ]
        ordering = ["-is_final", "-step"]

    def __str__(self) -> str:
        return self.filename

    @property
    def prompt_tag(self) -> str:
        """Give what calls the file in a prompt of A1111 and Forge, with the version's trigger words."""
        tag = f"<lora:{self.filename.removesuffix('.safetensors')}:1>"
        return ", ".join(filter(None, [tag, self.version.trigger_words]))


class LoraSample(TenantModel):
    """A picture drawn with a version (or, for comparison, without: `with_lora` false)."""

    version = models.ForeignKey(LoraVersion, on_delete=models.CASCADE, related_name="samples")
    blob = models.ForeignKey("projects.Blob", on_delete=models.PROTECT, related_name="+")
    step = models.PositiveIntegerField()
    prompt_index = models.PositiveSmallIntegerField()
    prompt = models.CharField(max_length=500)
    seed = models.BigIntegerField()
    with_lora = models.BooleanField(default=True)

    class Meta(TenantModel.Meta):
        constraints = [
            *tenant_constraints("projects_lorasample", "version", "blob"),
            models.UniqueConstraint(
                fields=["version", "step", "prompt_index", "with_lora"], name="projects_lorasample_once"
            ),
        ]
        ordering = ["step", "prompt_index"]

    def __str__(self) -> str:
        return f"{self.prompt} @ {self.step}"
