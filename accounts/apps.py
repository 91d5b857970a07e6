from datetime import timedelta

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _

from core.retention import Kept, register_kept


class AccountsConfig(AppConfig):
    name = "accounts"
    verbose_name = "Accounts"

    def ready(self) -> None:
        register_kept(
            Kept("audit", _("Audit log"), lambda team: None, _("Erased with the team, never before.")),
            Kept(
                "team",
                _("A deleted team"),
                lambda team: timedelta(days=14),
                _("Can be restored until then."),
            ),
            Kept("exports", _("Exports"), lambda team: timedelta(days=7)),
        )
        from accounts.meters import register_meters

        register_meters()
        from accounts import duties  # noqa: F401  its duties are registered by the import
