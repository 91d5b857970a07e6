from django.apps import AppConfig


class NotificationsConfig(AppConfig):
    name = "notifications"
    verbose_name = "Notifications"

    def ready(self) -> None:
        from accounts.listeners import on_member_change, on_person_deleted
        from core.realtime.topics import register
        from notifications import duties  # noqa: F401  registers what the clock does
        from notifications.realtime import INBOX_TOPIC
        from notifications.services.members import forget_person, tell_member_change

        register("inbox", INBOX_TOPIC)
        on_member_change(tell_member_change)
        on_person_deleted(forget_person)
