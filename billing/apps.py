from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _

from core.quotas import use_plans


class BillingConfig(AppConfig):
    name = "billing"
    verbose_name = _("Billing")

    def ready(self) -> None:
        from billing.entitlements import PlanTable

        use_plans(PlanTable())
        from billing import duties  # noqa: F401  its duties are registered by the import
