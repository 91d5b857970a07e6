"""A project groups datasets, trainings and models of one team."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from core.ids import UidField
from core.tenancy.constraints import tenant_constraints
from core.tenancy.models import TenantModel


class Project(TenantModel):
    uid = UidField("prj")
    name = models.CharField(_("name"), max_length=80)
    description = models.TextField(_("description"), max_length=2000, blank=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    archived_at = models.DateTimeField(null=True, blank=True)
    # The caller's own notes: short texts by name (projects.api.serializers.MetadataField).
    metadata = models.JSONField(default=dict, blank=True, db_default=models.Value({}, models.JSONField()))
    # Restricted: seen by owners, admins and those on its list only.
    is_restricted = models.BooleanField(_("restricted"), default=False)

    class Meta(TenantModel.Meta):
        constraints = [
            *tenant_constraints("projects_project"),
            models.UniqueConstraint(fields=["team", "name"], name="projects_project_name"),
        ]

    def __str__(self) -> str:
        return self.name


class ProjectMember(TenantModel):
    """Put one member of the team on the list of a restricted project. What they may do there their role says."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="members")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")

    class Meta(TenantModel.Meta):
        constraints = [
            *tenant_constraints("projects_projectmember", "project"),
            models.UniqueConstraint(fields=["project", "user"], name="projects_projectmember_once"),
        ]

    def __str__(self) -> str:
        return f"{self.user} in {self.project}"
