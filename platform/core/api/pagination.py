"""Lists by opaque cursor: by key, so that page 100 costs what page 1 costs and nothing is seen twice."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any, ClassVar

from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.errors import refused

PAGE = 20
LARGEST_PAGE = 100

_TEXT = re.compile(r"[a-z]+_[0-9a-z]{26}\Z")
_NUMBER = re.compile(r"[0-9]{1,18}\Z")


class UidCursor(BasePagination):
    """Page through rows by uid, which begins with the time of creation: newest first; `?limit=1..100&cursor=`."""

    field: ClassVar[str] = "uid"
    form: ClassVar[re.Pattern[str]] = _TEXT

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any]:
        """Return one page; the view's checked query gives `limit` and `cursor`."""
        self.limit = int(view.query.get("limit", PAGE))
        rows: Any = queryset.order_by(f"-{self.field}")
        if cursor := view.query.get("cursor"):
            rows = rows.filter(**{f"{self.field}__lt": self._decoded(cursor)})
        found = list(rows[: self.limit + 1])
        self.has_more = len(found) > self.limit
        page = found[: self.limit]
        self.last = str(getattr(page[-1], self.field)) if page else ""
        return page

    def get_paginated_response(self, data: Any) -> Response:
        cursor = base64.urlsafe_b64encode(self.last.encode()).decode().rstrip("=") if self.has_more else None
        return Response({"data": data, "has_more": self.has_more, "next_cursor": cursor})

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        return {
            "type": "object",
            "required": ["data", "has_more", "next_cursor"],
            "properties": {
                "data": schema,
                "has_more": {"type": "boolean"},
                "next_cursor": {"type": ["string", "null"], "description": "Send it as `cursor` to go on."},
            },
        }

    def _decoded(self, cursor: str) -> str:
        try:
            text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
        except (binascii.Error, ValueError):
            text = ""
        if not self.form.match(text):
            raise refused(
                "cursor_invalid", "Send a `next_cursor` of this list as it came.", 422, pointer="/cursor"
            )
        return text


class KeyCursor(UidCursor):
    """Page through rows that have no uid of their own by their primary key, newest first."""

    field = "pk"
    form = _NUMBER
