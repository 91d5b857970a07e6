"""Client of the LoRA Foundry API: upload pictures, train LoRAs, download weights."""

from lora_foundry.client import Client
from lora_foundry.errors import (
    Conflict,
    ConnectionFailed,
    FieldError,
    InvalidRequest,
    NotAuthenticated,
    NotFound,
    PermissionDenied,
    Problem,
    QuotaExceeded,
    RateLimited,
    ServerError,
    TrainingFailed,
)
from lora_foundry.rows import (
    Checkpoint,
    Dataset,
    DatasetVersion,
    Event,
    Item,
    Model,
    ModelVersion,
    Project,
    Training,
    Upload,
)

__version__ = "0.1.0"

__all__ = [
    "Checkpoint",
    "Client",
    "Conflict",
    "ConnectionFailed",
    "Dataset",
    "DatasetVersion",
    "Event",
    "FieldError",
    "InvalidRequest",
    "Item",
    "Model",
    "ModelVersion",
    "NotAuthenticated",
    "NotFound",
    "PermissionDenied",
    "Problem",
    "Project",
    "QuotaExceeded",
    "RateLimited",
    "ServerError",
    "Training",
    "TrainingFailed",
    "Upload",
]
