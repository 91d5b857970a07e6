"""Read JSON bodies, none larger than a request may be."""

from __future__ import annotations

import codecs
import json
from collections.abc import Mapping
from io import BytesIO
from typing import IO, Any

from django.conf import settings
from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser

from core.api.errors import refused

# So deep no body of this API is, and Python's own limit (1000) would be an error of ours.
_DEEPEST = 200


class BoundedJSONParser(JSONParser):
    """Parse a JSON body of at most `DATA_UPLOAD_MAX_MEMORY_SIZE` bytes (413 beyond), in strict JSON."""

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        most = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        body = stream.read(most + 1)
        if len(body) > most:
            raise refused("body_too_large", f"A body has at most {most} bytes.", 413)
        try:
            codecs.lookup((parser_context or {}).get("encoding") or "utf-8")
            data = super().parse(BytesIO(body), media_type, parser_context or {})
        except (LookupError, RecursionError, json.JSONDecodeError) as error:
            raise ParseError(f"JSON parse error - {error}") from error
        _check(data, _DEEPEST)
        return data


def _check(data: Any, levels: int) -> None:
    """Raise ParseError for a body that is nested deeper than anything here can be."""
    if levels == 0:
        raise ParseError(f"JSON parse error - more than {_DEEPEST} levels")
    values = data.values() if isinstance(data, dict) else data if isinstance(data, list) else ()
    for value in values:
        _check(value, levels - 1)
