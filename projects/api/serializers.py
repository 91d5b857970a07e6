"""Shapes of the API: what goes in (strict) and what comes out."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.reverse import reverse

from accounts.api.base import StrictSerializer
from projects.models import (
    Dataset,
    DatasetVersion,
    Item,
    LoraFile,
    LoraModel,
    LoraVersion,
    Project,
    Upload,
    UploadedFile,
)
from projects.services.items import BulkAction


class ObjectSerializer(serializers.ModelSerializer[Any]):
    """Give `id` (the uid) and `object` (what it is) of every resource."""

    object_name = ""

    id = serializers.CharField(source="uid", read_only=True)
    object = serializers.SerializerMethodField()

    def get_object(self, row: Any) -> str:
        return self.object_name

    def address(self, name: str, uid: str) -> str:
        """Return the absolute address of an API resource."""
        return str(reverse(name, kwargs={"uid": uid}, request=self.context.get("request")))


class ProjectSerializer(ObjectSerializer):
    object_name = "project"

    datasets = serializers.IntegerField(source="dataset_count", read_only=True)
    models = serializers.IntegerField(source="model_count", read_only=True)
    pictures = serializers.IntegerField(source="picture_count", read_only=True)

    class Meta:
        model = Project
        fields = (
            "id",
            "object",
            "name",
            "description",
            "datasets",
            "models",
            "pictures",
            "archived_at",
            "created_at",
        )


class ProjectInput(StrictSerializer):
    name = serializers.CharField(max_length=80)
    description = serializers.CharField(max_length=2000, required=False, allow_blank=True, default="")


class ProjectChange(StrictSerializer):
    name = serializers.CharField(max_length=80, required=False)
    description = serializers.CharField(max_length=2000, required=False, allow_blank=True)
    archived = serializers.BooleanField(required=False)


class DatasetSerializer(ObjectSerializer):
    object_name = "dataset"

    project = serializers.CharField(source="project.uid", read_only=True)
    items = serializers.IntegerField(source="item_count", read_only=True)
    versions = serializers.IntegerField(source="version_count", read_only=True)

    class Meta:
        model = Dataset
        fields = ("id", "object", "project", "name", "items", "versions", "created_at")


class DatasetInput(StrictSerializer):
    project = serializers.CharField(max_length=40)
    name = serializers.CharField(max_length=80)


class DatasetChange(StrictSerializer):
    name = serializers.CharField(max_length=80)


class ItemSerializer(ObjectSerializer):
    object_name = "item"

    dataset = serializers.CharField(source="dataset.uid", read_only=True)
    sha256 = serializers.CharField(source="blob.sha256", read_only=True)
    width = serializers.IntegerField(source="blob.width", read_only=True)
    height = serializers.IntegerField(source="blob.height", read_only=True)
    size = serializers.IntegerField(source="blob.size", read_only=True)
    content_type = serializers.CharField(source="blob.content_type", read_only=True)

    class Meta:
        model = Item
        fields = (
            "id",
            "object",
            "dataset",
            "filename",
            "caption",
            "excluded",
            "width",
            "height",
            "size",
            "content_type",
            "sha256",
            "created_at",
        )


class ItemChange(StrictSerializer):
    caption = serializers.CharField(max_length=4000, required=False, allow_blank=True)
    excluded = serializers.BooleanField(required=False)


class BulkInput(StrictSerializer):
    action = serializers.ChoiceField(choices=BulkAction.choices)
    items = serializers.ListField(
        child=serializers.CharField(max_length=40),
        required=False,
        max_length=20_000,
        help_text="Ids of pictures; left out, all pictures of the dataset.",
    )
    text = serializers.CharField(
        max_length=4000, required=False, allow_blank=True, default="", trim_whitespace=False
    )
    replacement = serializers.CharField(
        max_length=4000, required=False, allow_blank=True, default="", trim_whitespace=False
    )


class BulkResult(serializers.Serializer[Any]):
    changed = serializers.IntegerField()


class DatasetVersionSerializer(ObjectSerializer):
    object_name = "dataset_version"

    dataset = serializers.CharField(source="dataset.uid", read_only=True)
    items = serializers.IntegerField(source="item_count", read_only=True)

    class Meta:
        model = DatasetVersion
        fields = ("id", "object", "dataset", "number", "items", "manifest_sha256", "created_at")


class UploadedFileSerializer(serializers.ModelSerializer[UploadedFile]):
    item = serializers.SerializerMethodField()

    class Meta:
        model = UploadedFile
        fields = ("filename", "outcome", "code", "message", "item")

    def get_item(self, row: UploadedFile) -> str | None:
        return row.item.uid if row.item else None


class UploadSerializer(ObjectSerializer):
    object_name = "upload"

    dataset = serializers.CharField(source="dataset.uid", read_only=True)
    files = UploadedFileSerializer(many=True, read_only=True)

    class Meta:
        model = Upload
        fields = (
            "id",
            "object",
            "dataset",
            "filename",
            "size",
            "offset",
            "state",
            "files",
            "expires_at",
            "created_at",
        )


class UploadInput(StrictSerializer):
    dataset = serializers.CharField(max_length=40)
    file = serializers.FileField(allow_empty_file=True, help_text="A picture, a caption (.txt) or a zip.")


class LoraModelSerializer(ObjectSerializer):
    object_name = "model"

    project = serializers.CharField(source="project.uid", read_only=True)
    versions = serializers.IntegerField(source="version_count", read_only=True)
    newest_version = serializers.IntegerField(source="newest_number", read_only=True, allow_null=True)

    class Meta:
        model = LoraModel
        fields = (
            "id",
            "object",
            "project",
            "name",
            "description",
            "versions",
            "newest_version",
            "created_at",
        )


class LoraFileSerializer(ObjectSerializer):
    object_name = "model_file"

    size = serializers.IntegerField(source="blob.size", read_only=True)
    sha256 = serializers.CharField(source="blob.sha256", read_only=True)

    class Meta:
        model = LoraFile
        fields = ("id", "object", "filename", "step", "epoch", "is_final", "size", "sha256")


class LoraVersionSerializer(ObjectSerializer):
    object_name = "model_version"

    model = serializers.CharField(source="model.uid", read_only=True)
    training = serializers.CharField(source="training_uid", read_only=True)
    dataset_version = serializers.SerializerMethodField()
    files = LoraFileSerializer(many=True, read_only=True)
    urls = serializers.SerializerMethodField()

    class Meta:
        model = LoraVersion
        fields = (
            "id",
            "object",
            "model",
            "number",
            "trigger_words",
            "training",
            "dataset_version",
            "base_model",
            "base_sha256",
            "recipe_sha256",
            "seed",
            "steps",
            "rank",
            "engine_version",
            "verified_keys",
            "files",
            "urls",
            "created_at",
        )

    def get_dataset_version(self, row: LoraVersion) -> str | None:
        return row.dataset_version.uid if row.dataset_version else None

    @extend_schema_field({"type": "object", "additionalProperties": {"type": "string"}})
    def get_urls(self, row: LoraVersion) -> dict[str, str]:
        return {
            "self": self.address("model_version-detail", row.uid),
            "download": self.address("model_version-download", row.uid),
        }
