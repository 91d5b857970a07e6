"""API keys: shown once, stored as a prefix and a keyed hash."""

from __future__ import annotations

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.utils.translation import gettext_lazy as _

from core.ids import UidField
from core.tenancy.constraints import tenant_constraints
from core.tenancy.models import TenantModel


class ApiKey(TenantModel):
    """A credential of one team. `prefix` finds the row, `secret_hmac` proves the key."""

    uid = UidField("key")
    name = models.CharField(_("name"), max_length=80)
    prefix = models.CharField(max_length=20, unique=True)
    secret_hmac = models.CharField(max_length=64)
    scopes = ArrayField(models.CharField(max_length=40))
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_keys"
    )
    # Test keys run the simulated trainer and are never billed.
    is_test = models.BooleanField(_("test key"), default=False)
    expires_at = models.DateTimeField(_("expires"), null=True, blank=True)
    # Networks (CIDR) the key may be used from; none means anywhere.
    allowed_networks = ArrayField(models.CharField(max_length=43), default=list, blank=True)
    # After a roll, the key that takes over; this one goes on until `expires_at`.
    replaced_by = models.OneToOneField(
        "self", null=True, blank=True, on_delete=models.SET_NULL, related_name="replaces"
    )
    last_used_at = models.DateTimeField(null=True, blank=True)
    last_used_from = models.GenericIPAddressField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta(TenantModel.Meta):
        constraints = tenant_constraints("accounts_apikey", "replaced_by")

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"
