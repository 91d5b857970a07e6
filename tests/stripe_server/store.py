"""Keep the objects of one Stripe account in memory, and list them in pages."""

from __future__ import annotations

import secrets
import string
from collections.abc import Iterable
from typing import Any

from tests.stripe_server.errors import invalid, missing
from tests.stripe_server.forms import Obj, integer

_LETTERS = string.ascii_letters + string.digits
_BOUNDS = {"gt": int.__gt__, "gte": int.__ge__, "lt": int.__lt__, "lte": int.__le__}


def new_id(prefix: str) -> str:
    return f"{prefix}_{''.join(secrets.choice(_LETTERS) for _ in range(20))}"


class Store:
    """Hold objects by their `object` name and id, in the order they were made."""

    def __init__(self) -> None:
        self._tables: dict[str, dict[str, Obj]] = {}

    def add(self, obj: Obj) -> Obj:
        self._tables.setdefault(obj["object"], {})[obj["id"]] = obj
        return obj

    def get(self, kind: str, identifier: str, param: str = "id") -> Obj:
        """Return an object, or answer 404 as Stripe does."""
        found = self._tables.get(kind, {}).get(identifier)
        if found is None:
            raise missing(kind, identifier, param)
        return found

    def find(self, identifier: str) -> Obj | None:
        """Return whatever bears this id: what `expand[]` follows."""
        for table in self._tables.values():
            if identifier in table:
                return table[identifier]
        return None

    def all(self, kind: str, **having: Any) -> list[Obj]:
        """Return the objects of a kind, oldest first, whose fields have these values."""
        rows = list(self._tables.get(kind, {}).values())
        return [row for row in rows if all(row.get(name) == value for name, value in having.items())]

    def remove(self, obj: Obj) -> None:
        del self._tables[obj["object"]][obj["id"]]


def list_object(rows: list[Obj], url: str, *, more: bool = False) -> Obj:
    return {"object": "list", "data": rows, "has_more": more, "url": url}


def page(rows: Iterable[Obj], params: Obj, url: str) -> Obj:
    """Return one page, newest first, by `limit`, `starting_after`, `ending_before` and `created`."""
    newest = [row for row in reversed(list(rows)) if _created_within(row, params.get("created"))]
    limit = integer(params, "limit", 10) or 0
    if not 1 <= limit <= 100:
        raise invalid("This value must be between 1 and 100.", "limit", "parameter_invalid_integer")
    if "ending_before" in params:
        before = newest[: _position(newest, params, "ending_before")]
        return list_object(before[-limit:], url, more=len(before) > limit)
    if "starting_after" in params:
        newest = newest[_position(newest, params, "starting_after") + 1 :]
    return list_object(newest[:limit], url, more=len(newest) > limit)


def _position(rows: list[Obj], params: Obj, name: str) -> int:
    for place, row in enumerate(rows):
        if row["id"] == params[name]:
            return place
    raise missing("object", params[name], name)


def _created_within(row: Obj, bounds: Any) -> bool:
    if bounds is None:
        return True
    if isinstance(bounds, str):
        return bool(row["created"] == int(bounds))
    return all(_BOUNDS[name](row["created"], int(value)) for name, value in bounds.items())
