from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _

from core.retention import Kept, register_kept


class NotificationsConfig(AppConfig):
    name = "notifications"
    verbose_name = "Notifications"

    def ready(self) -> None:
        from accounts.listeners import on_member_change, on_person_deleted
        from core.realtime.topics import register
        from notifications import duties  # registers what the clock does
        from notifications.realtime import INBOX_TOPIC
        from notifications.services.members import forget_person, tell_member_change

        register("inbox", INBOX_TOPIC)
        on_member_change(tell_member_change)
        on_person_deleted(forget_person)
        register_kept(
            Kept("webhooks", _("The log of webhooks"), lambda team: duties.LOG_KEPT_FOR),
            Kept("lists", _("What the bell told"), lambda team: duties.LISTS_KEPT_FOR, _("For each person.")),
        )
