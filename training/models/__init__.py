from training.models.foundation import FoundationModel
from training.models.job import Attempt, TrainingJob
from training.models.queue import QueueLook, QueueSettings, TeamUsage
from training.models.telemetry import Checkpoint, JobEvent, MetricChunk, MetricOutline, Sample
from training.models.worker import Worker

__all__ = [
    "Attempt",
    "Checkpoint",
    "FoundationModel",
    "JobEvent",
    "MetricChunk",
    "MetricOutline",
    "QueueLook",
    "QueueSettings",
    "Sample",
    "TeamUsage",
    "TrainingJob",
    "Worker",
]
