from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _

from core.retention import Kept, register_kept


class AccountsConfig(AppConfig):
    name = "accounts"
    verbose_name = "Accounts"

    def ready(self) -> None:
        from accounts.services.exports import KEPT_FOR as EXPORTS_KEPT_FOR
        from accounts.services.teams import KEPT_FOR

        register_kept(
            Kept("audit", _("Audit log"), lambda team: None, _("Erased with the team, never before.")),
            Kept(
                "team",
                _("A deleted team"),
                lambda team: KEPT_FOR,
                _("Can be restored until then."),
            ),
            Kept("exports", _("Exports"), lambda team: EXPORTS_KEPT_FOR),
        )
        from accounts.meters import register_meters

        register_meters()
        from accounts import duties  # noqa: F401  its duties are registered by the import
