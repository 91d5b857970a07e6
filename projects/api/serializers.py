"""Shapes of the API: what goes in (strict) and what comes out."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiExample, extend_schema_field, extend_schema_serializer
from rest_framework import serializers

from accounts.api.base import Choice, ListQuery, ObjectSerializer, Query, StrictSerializer
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
    UploadState,
)
from projects.selectors import FILTERS
from projects.services.items import BulkAction

# What a download answers with.
FOUND_ELSEWHERE = (
    "The file lies at `Location`, a signed address that lasts five minutes and needs no credential."
)


def example(title: str, /, **body: Any) -> Any:
    """Put an example of a request into the document; a test sends it with ids that are there."""
    return extend_schema_serializer(examples=[OpenApiExample(title, body, request_only=True)])


class ProjectQuery(ListQuery):
    archived = serializers.BooleanField(required=False, help_text="The archive instead of the others.")


class InProjectQuery(ListQuery):
    project = serializers.CharField(max_length=40, required=False, help_text="Only those of this project.")


class ItemQuery(ListQuery):
    show = Choice(FILTERS, required=False, help_text="Only those that need a look.")
    search = serializers.CharField(max_length=200, required=False, help_text="In captions and file names.")


class UploadQuery(ListQuery):
    dataset = serializers.CharField(max_length=40, required=False, help_text="Only those into this dataset.")
    state = Choice(UploadState.choices, required=False)


class DownloadQuery(Query):
    file = serializers.CharField(
        max_length=40, required=False, help_text="Id of one of the version's files; else the final one."
    )


class ProjectSerializer(ObjectSerializer):
    object_name = "project"

    restricted = serializers.BooleanField(source="is_restricted", read_only=True)
    metadata = serializers.DictField(child=serializers.CharField(), read_only=True)
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
            "restricted",
            "metadata",
            "archived_at",
            "created_at",
        )


class MetadataField(serializers.DictField):
    """Up to 16 short texts of the caller's own, by names of the caller's own."""

    child = serializers.CharField(max_length=500, allow_blank=True)

    def run_child_validation(self, data: Any) -> Any:
        if len(data) > 16:
            raise serializers.ValidationError("At most 16 entries fit.", code="too_many")
        if any(not 0 < len(str(key)) <= 40 or not str(key).isprintable() for key in data):
            raise serializers.ValidationError("A name has 1 to 40 printable characters.", code="name")
        return super().run_child_validation(data)


@example("A project", name="Lamps", description="For the autumn catalogue", metadata={"crm": "4711"})
class ProjectInput(StrictSerializer):
    name = serializers.CharField(max_length=80)
    description = serializers.CharField(max_length=2000, required=False, allow_blank=True, default="")
    metadata = MetadataField(required=False)


@example("Into the archive", archived=True)
class ProjectChange(StrictSerializer):
    name = serializers.CharField(max_length=80, required=False)
    description = serializers.CharField(max_length=2000, required=False, allow_blank=True)
    archived = serializers.BooleanField(required=False)
    restricted = serializers.BooleanField(
        required=False, help_text="Only for those in `members`, owners and admins. Asks for a person's token."
    )
    members = serializers.ListField(
        child=serializers.CharField(max_length=40),
        required=False,
        max_length=1000,
        help_text="Ids of the people on the list of a restricted project; together with `restricted`.",
    )
    metadata = MetadataField(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if "members" in attrs and "restricted" not in attrs:
            raise serializers.ValidationError({"members": "Send `restricted` with it."})
        return attrs


class DatasetSerializer(ObjectSerializer):
    object_name = "dataset"

    project = serializers.CharField(source="project.uid", read_only=True)
    items = serializers.IntegerField(source="item_count", read_only=True)
    versions = serializers.IntegerField(source="version_count", read_only=True)

    class Meta:
        model = Dataset
        fields = ("id", "object", "project", "name", "items", "versions", "created_at")


@example("A dataset", project="prj_01jd3v7k2m0000000000000000", name="Front views")
class DatasetInput(StrictSerializer):
    project = serializers.CharField(max_length=40)
    name = serializers.CharField(max_length=80)


@example("Rename", name="Front and side views")
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


@example("Caption", caption="a brass lamp on a desk", excluded=False)
class ItemChange(StrictSerializer):
    caption = serializers.CharField(max_length=4000, required=False, allow_blank=True)
    excluded = serializers.BooleanField(required=False)


@example("A word in front", action="prepend", text="brasslamp")
class BulkInput(StrictSerializer):
    action = Choice(BulkAction.choices)
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


class BulkRow(serializers.Serializer[Any]):
    item = serializers.CharField()
    outcome = serializers.ChoiceField(["changed", "unchanged", "not_found"])


class BulkResult(serializers.Serializer[Any]):
    changed = serializers.IntegerField(help_text="How many pictures changed.")
    results = BulkRow(many=True, help_text="One row for each id in `items`, in that order; else none.")


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


@example("Describe", description="Warm light, brass")
class LoraModelChange(StrictSerializer):
    name = serializers.CharField(max_length=80, required=False)
    description = serializers.CharField(max_length=4000, required=False, allow_blank=True)


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
