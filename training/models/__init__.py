from training.models.captioning import CaptionMode, CaptionOutcome, WantedCaption
from training.models.foundation import FoundationModel
from training.models.job import Attempt, TrainingJob
from training.models.queue import QueueLook, QueueSettings, TeamUsage
from training.models.telemetry import Checkpoint, JobEvent, MetricChunk, MetricOutline, Sample
from training.models.worker import Worker

__all__ = [
    "Attempt",
    "CaptionMode",
    "CaptionOutcome",
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
    "WantedCaption",
    "Worker",
]
