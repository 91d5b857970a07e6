from django.apps import AppConfig
from django.urls import register_converter


class CoreConfig(AppConfig):
    name = "core"
    verbose_name = "Core"

    def ready(self) -> None:
        from core import outbox  # noqa: F401  its duties are registered by the import
        from core.ids import UidConverter

        register_converter(UidConverter, "uid")
