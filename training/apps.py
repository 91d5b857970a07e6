from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class TrainingConfig(AppConfig):
    name = "training"
    verbose_name = _("Trainings")

    def ready(self) -> None:
        from core.metrics import register as register_metrics
        from core.realtime.topics import register
        from training import retention  # noqa: F401  its duties are registered by the import
        from training.access import TRAINING_TOPIC
        from training.meters import register_meters
        from training.metrics import queue_metrics
        from training.queue import budget, gang, outlook, room, sweep  # noqa: F401  so are theirs

        register("training", TRAINING_TOPIC)
        register_meters()
        register_metrics(queue_metrics)
