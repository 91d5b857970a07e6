from training.models.foundation import FoundationModel
from training.models.job import Attempt, TrainingJob
from training.models.telemetry import Checkpoint, JobEvent, MetricChunk, Sample
from training.models.worker import Worker

__all__ = [
    "Attempt",
    "Checkpoint",
    "FoundationModel",
    "JobEvent",
    "MetricChunk",
    "Sample",
    "TrainingJob",
    "Worker",
]
