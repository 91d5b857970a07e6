from projects.models.blob import Blob
from projects.models.dataset import Dataset, Item
from projects.models.lora import LoraFile, LoraModel, LoraSample, LoraVersion
from projects.models.project import Project, ProjectMember
from projects.models.upload import Upload, UploadedFile, UploadOutcome, UploadState
from projects.models.version import DatasetVersion, DatasetVersionItem

__all__ = [
    "Blob",
    "Dataset",
    "DatasetVersion",
    "DatasetVersionItem",
    "Item",
    "LoraFile",
    "LoraModel",
    "LoraSample",
    "LoraVersion",
    "Project",
    "ProjectMember",
    "Upload",
    "UploadOutcome",
    "UploadState",
    "UploadedFile",
]
