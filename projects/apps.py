from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _

from core.retention import Kept, register_kept


class ProjectsConfig(AppConfig):
    name = "projects"
    verbose_name = "Projects"

    def ready(self) -> None:
        from projects import duties  # noqa: F401  registers what the clock does
        from projects.duties import UNUSED_FOR
        from projects.meters import register_meters
        from projects.services.uploads import KEPT_FOR

        register_meters()
        register_kept(
            Kept("pictures", _("Pictures, versions, models and samples"), lambda team: None),
            Kept("uploads", _("Unfinished uploads"), lambda team: KEPT_FOR, _("After their last byte.")),
            Kept(
                "bytes",
                _("The bytes of what was deleted"),
                lambda team: UNUSED_FOR,
                _("At most; bytes that are older already go within the hour."),
            ),
        )
        from accounts.listeners import on_member_change
        from projects.services.projects import forget_member

        on_member_change(forget_member)
