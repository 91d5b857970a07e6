"""Shapes of people, teams, keys and the audit log: what goes in (strict) and what comes out."""

from __future__ import annotations

import hashlib
from typing import Any

from drf_spectacular.utils import OpenApiExample, extend_schema_field, extend_schema_serializer
from rest_framework import serializers

from accounts.api.base import Choice, ListQuery, ObjectSerializer, StrictSerializer, Whole
from accounts.models import ApiKey, AuditEvent, Invitation, Membership, TeamExport
from accounts.roles import KEY_SCOPES, KEY_SCOPES_MORE, Role
from accounts.services.api_keys import LONGEST_OVERLAP, MOST_NETWORKS
from core.ids import encode_base32

_SCOPES = [scope.value for scope in KEY_SCOPES + KEY_SCOPES_MORE]


class TeamSummary(serializers.Serializer[Any]):
    id = serializers.CharField()
    slug = serializers.CharField()
    name = serializers.CharField()


class UserSummary(serializers.Serializer[Any]):
    id = serializers.CharField()
    name = serializers.CharField()
    email = serializers.EmailField()


class MeSerializer(serializers.Serializer[Any]):
    object = serializers.CharField()
    team = TeamSummary()
    user = UserSummary()
    role = serializers.ChoiceField(Role.choices)
    api_key = serializers.CharField(allow_null=True)
    test = serializers.BooleanField(help_text="Whether trainings are simulated (`lf_test_` keys).")
    scopes = serializers.ListField(child=serializers.CharField())


class QuotaSerializer(serializers.Serializer[Any]):
    quota = serializers.CharField()
    used = serializers.IntegerField()
    limit = serializers.IntegerField(allow_null=True, help_text="null: no limit.")
    resets_at = serializers.DateTimeField(
        allow_null=True, help_text="When a monthly one begins at 0 again; null for what is counted otherwise."
    )


class RateSerializer(serializers.Serializer[Any]):
    bucket = serializers.CharField()
    requests = serializers.IntegerField()
    seconds = serializers.IntegerField()


class LimitsSerializer(serializers.Serializer[Any]):
    object = serializers.CharField()
    quotas = QuotaSerializer(many=True)
    rate_limits = RateSerializer(many=True)


class TeamSerializer(serializers.Serializer[Any]):
    object_name = "team"

    id = serializers.CharField(source="uid")
    object = serializers.SerializerMethodField()
    slug = serializers.CharField()
    name = serializers.CharField()
    require_two_factor = serializers.BooleanField()
    created_at = serializers.DateTimeField()

    def get_object(self, row: Any) -> str:
        return self.object_name


@extend_schema_serializer(examples=[OpenApiExample("Rename", {"name": "Atelier"}, request_only=True)])
class TeamChange(StrictSerializer):
    name = serializers.CharField(max_length=80, required=False)
    require_two_factor = serializers.BooleanField(required=False)


class MemberSerializer(serializers.ModelSerializer[Membership]):
    object_name = "member"

    id = serializers.CharField(source="user.uid", read_only=True)
    object = serializers.SerializerMethodField()
    name = serializers.CharField(source="user.name", read_only=True)
    email = serializers.EmailField(source="user.email", read_only=True)
    joined_at = serializers.DateTimeField(source="created_at", read_only=True)

    class Meta:
        model = Membership
        fields = ("id", "object", "name", "email", "role", "joined_at")
        read_only_fields = fields

    def get_object(self, row: Any) -> str:
        return self.object_name


class RoleQuery(ListQuery):
    role = Choice(Role.choices, required=False)


@extend_schema_serializer(examples=[OpenApiExample("Editor", {"role": "editor"}, request_only=True)])
class MemberChange(StrictSerializer):
    role = Choice(Role.choices)


class InvitationSerializer(ObjectSerializer):
    object_name = "invitation"

    invited_by = serializers.CharField(source="invited_by.uid", read_only=True, default=None, allow_null=True)
    open = serializers.BooleanField(source="is_open", read_only=True)

    class Meta:
        model = Invitation
        fields = ("id", "object", "email", "role", "open", "invited_by", "expires_at", "created_at")
        read_only_fields = fields


@extend_schema_serializer(
    examples=[OpenApiExample("Invite", {"email": "dana@example.org", "role": "editor"}, request_only=True)]
)
class InvitationInput(StrictSerializer):
    email = serializers.CharField(max_length=254)
    role = Choice(Role.choices)


class ApiKeySerializer(ObjectSerializer):
    object_name = "api_key"

    test = serializers.BooleanField(source="is_test", read_only=True)
    created_by = serializers.CharField(source="created_by.uid", read_only=True)
    replaced_by = serializers.CharField(
        source="replaced_by.uid", read_only=True, default=None, allow_null=True
    )

    class Meta:
        model = ApiKey
        fields = (
            "id",
            "object",
            "name",
            "prefix",
            "scopes",
            "test",
            "allowed_networks",
            "created_by",
            "expires_at",
            "replaced_by",
            "last_used_at",
            "last_used_from",
            "revoked_at",
            "created_at",
        )
        read_only_fields = fields


class NewApiKeySerializer(ApiKeySerializer):
    text = serializers.SerializerMethodField(
        help_text="The key itself, told this once. A repeat of the request says null."
    )

    class Meta:
        model = ApiKey
        fields = (*ApiKeySerializer.Meta.fields, "text")
        read_only_fields = fields

    @extend_schema_field({"type": ["string", "null"]})
    def get_text(self, row: ApiKey) -> str:
        return str(self.context["text"])


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "A test key",
            {"name": "CI", "scopes": ["trainings:read", "trainings:write"], "test": True},
            request_only=True,
        )
    ]
)
class ApiKeyInput(StrictSerializer):
    name = serializers.CharField(max_length=80)
    scopes = serializers.ListField(
        child=Choice(_SCOPES), required=False, max_length=40, help_text="Left out: the usual ones you hold."
    )
    test = serializers.BooleanField(required=False, default=False)
    expires_at = serializers.DateTimeField(required=False, allow_null=True, default=None)
    allowed_networks = serializers.ListField(
        child=serializers.CharField(max_length=43), required=False, default=list, max_length=MOST_NETWORKS
    )


@extend_schema_serializer(examples=[OpenApiExample("A day", {"overlap_seconds": 86400}, request_only=True)])
class RollInput(StrictSerializer):
    overlap_seconds = Whole(
        required=False,
        default=0,
        min_value=0,
        max_value=int(LONGEST_OVERLAP.total_seconds()),
        help_text="How long the old key goes on.",
    )


class AuditEventSerializer(serializers.ModelSerializer[AuditEvent]):
    object_name = "audit_event"

    id = serializers.SerializerMethodField()
    object = serializers.SerializerMethodField()
    actor = serializers.CharField(
        source="user.uid", read_only=True, default=None, allow_null=True, help_text="Who did it."
    )
    api_key = serializers.SerializerMethodField()
    subject = serializers.CharField(source="subject_uid", read_only=True)
    at = serializers.DateTimeField(source="created_at", read_only=True)
    data = serializers.DictField(read_only=True)  # type: ignore[assignment]

    class Meta:
        model = AuditEvent
        fields = ("id", "object", "verb", "actor", "api_key", "subject", "subject_name", "data", "at")
        read_only_fields = fields

    def get_id(self, row: AuditEvent) -> str:
        # Stable, and of the shape that every id has; the rows themselves have none.
        digest = hashlib.sha256(f"{row.team_id}/{row.pk}".encode()).digest()
        return f"aud_{encode_base32(int.from_bytes(digest[:16], 'big'), 26)}"

    def get_object(self, row: AuditEvent) -> str:
        return self.object_name

    @extend_schema_field({"type": ["string", "null"]})
    def get_api_key(self, row: AuditEvent) -> str | None:
        return row.api_key_uid or None


class AuditQuery(ListQuery):
    verb = serializers.CharField(
        max_length=60, required=False, help_text="`member.removed`, or all of `member.`"
    )
    subject = serializers.CharField(max_length=40, required=False, help_text="Id of what was changed.")
    actor = serializers.CharField(max_length=40, required=False, help_text="Id of a person or of an API key.")
    since = serializers.DateTimeField(required=False)
    until = serializers.DateTimeField(required=False)


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "Log in",
            {"email": "alice@example.org", "password": "correct horse", "team": "atelier"},
            request_only=True,
        )
    ]
)
class TokenInput(StrictSerializer):
    email = serializers.CharField(max_length=254)
    password = serializers.CharField(max_length=1000, trim_whitespace=False)
    team = serializers.CharField(max_length=50, help_text="Address or id of one of your teams.")
    code = serializers.CharField(
        max_length=20, required=False, allow_blank=True, default="", help_text="Of your second factor."
    )


@extend_schema_serializer(
    examples=[OpenApiExample("Renew", {"refresh_token": "eyJhbGciOiJIUzI1NiJ9.e30.c2ln"}, request_only=True)]
)
class RefreshInput(StrictSerializer):
    refresh_token = serializers.CharField(max_length=4000)


class TokenResult(serializers.Serializer[Any]):
    object = serializers.CharField()
    token_type = serializers.CharField()
    access_token = serializers.CharField()
    expires_in = serializers.IntegerField(help_text="Seconds the access token is good for.")
    refresh_token = serializers.CharField(help_text="Good for one use.")
    refresh_expires_in = serializers.IntegerField()
    team = TeamSummary()
    user = UserSummary()


class ExportSerializer(ObjectSerializer):
    object_name = "export"

    created_by = serializers.CharField(source="created_by.uid", read_only=True, default=None, allow_null=True)
    counts = serializers.DictField(
        child=serializers.IntegerField(), read_only=True, help_text="Rows of each table, once it is ready."
    )
    download = serializers.SerializerMethodField()

    class Meta:
        model = TeamExport
        fields = (
            "id",
            "object",
            "state",
            "size",
            "counts",
            "download",
            "created_by",
            "created_at",
            "expires_at",
        )
        read_only_fields = fields

    def get_download(self, row: TeamExport) -> str:
        return self.address("export-download", row.uid)


@extend_schema_serializer(examples=[OpenApiExample("Confirm", {"name": "Atelier"}, request_only=True)])
class DeletionInput(StrictSerializer):
    name = serializers.CharField(max_length=80, help_text="The name of the team, to confirm it.")


class DeletionResult(serializers.Serializer[Any]):
    object = serializers.CharField()
    team = serializers.CharField()
    deleted_at = serializers.DateTimeField()
    erased_after = serializers.DateTimeField(help_text="From then on nothing can be brought back.")
