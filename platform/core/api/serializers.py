"""Input of the API: bodies and query strings that refuse what they do not know."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from core.api.pagination import LARGEST_PAGE, PAGE


class StrictSerializer(serializers.Serializer[Any]):
    """A serializer for a body that refuses fields it does not know."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict) and (unknown := sorted(set(data) - set(self.fields))):
            raise serializers.ValidationError(
                {
                    name: serializers.ErrorDetail(
                        f"There is no field {name!r} here. Known: {', '.join(self.fields)}.",
                        code="unknown_field",
                    )
                    for name in unknown
                }
            )
        return super().to_internal_value(data)


class Whole(serializers.IntegerField):
    """A whole number in plain digits: not "٣", not "1.0", not true."""

    def to_internal_value(self, data: Any) -> int:
        text = str(data)
        if isinstance(data, bool | float) or not text.removeprefix("-").isdigit() or not text.isascii():
            self.fail("invalid")
        return super().to_internal_value(data)


class Query(StrictSerializer):
    """The query string of an action; without fields, nothing may be asked."""


class ListQuery(Query):
    """The query string of a list; a subclass adds its filters."""

    limit = Whole(
        min_value=1, max_value=LARGEST_PAGE, required=False, help_text=f"Rows on a page (default {PAGE})."
    )
    cursor = serializers.CharField(
        max_length=200, required=False, help_text="`next_cursor` of the page before."
    )


class Choice(serializers.ChoiceField):
    """A choice of plain strings: a list or an object is refused, not an error of ours."""

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, str):
            self.fail("invalid_choice", input=data)
        return super().to_internal_value(data)


class ProblemField(serializers.Serializer[Any]):
    pointer = serializers.CharField(
        help_text="JSON pointer to the field of the body, or to the query parameter."
    )
    code = serializers.CharField()
    detail = serializers.CharField()


class Problem(serializers.Serializer[Any]):
    """A problem document (RFC 9457). `code` is stable; some codes bring further members (`quota`, `permission`)."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    code = serializers.CharField()
    detail = serializers.CharField()
    errors = ProblemField(many=True)  # type: ignore[assignment]
    request_id = serializers.CharField(help_text="Name it when you ask for help.")
    retryable = serializers.BooleanField(help_text="Whether the same request may succeed later by itself.")
