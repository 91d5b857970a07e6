"""Read parameters as the stripe library writes them: `items[0][price]=price_1`, everything text."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl

from tests.stripe_server.errors import invalid, required

Obj = dict[str, Any]

# Their keys are the caller's: `metadata[0]` is a name, not a place in a list.
FREE_KEYS = {"metadata", "payload"}
_PART = re.compile(r"\[([^\[\]]*)\]")


def decode(encoded: str) -> Obj:
    """Return nested dictionaries and lists of text for a query string or a form body."""
    root: Obj = {}
    for key, value in parse_qsl(encoded, keep_blank_values=True):
        name = key.split("[", 1)[0]
        path = [name, *_PART.findall(key)]
        node = root
        for part in path[:-1]:
            node = node.setdefault(part or str(len(node)), {})
        node[path[-1] or str(len(node))] = value
    return {key: _lists(key, value) for key, value in root.items()}


def _lists(key: str, value: Any) -> Any:
    if not isinstance(value, dict) or key in FREE_KEYS:
        return value
    if value and all(part.isdigit() for part in value):
        return [_lists("", value[part]) for part in sorted(value, key=int)]
    return {part: _lists(part, inner) for part, inner in value.items()}


def text(params: Obj, name: str) -> str:
    """Return a parameter that must be there."""
    value = params.get(name)
    if not value or not isinstance(value, str):
        raise required(name)
    return value


def integer(params: Obj, name: str, default: int | None = None) -> int | None:
    value = params.get(name)
    if value is None or value == "":
        return default
    try:
        return int(value)
    except (TypeError, ValueError):
        raise invalid(f"Invalid integer: {value}", name, "parameter_invalid_integer") from None


def amount(params: Obj, name: str) -> int:
    value = integer(params, name)
    if value is None:
        raise required(name)
    return value


def flag(params: Obj, name: str, *, default: bool = False) -> bool:
    value = params.get(name)
    if value is None or value == "":
        return default
    if value not in ("true", "false"):
        raise invalid(f"Invalid boolean: {value}", name)
    return bool(value == "true")


def merged_metadata(old: Obj, new: Any) -> Obj:
    """Return metadata after an update: an empty value removes its key, an empty text removes all."""
    if new is None:
        return old
    if new == "":
        return {}
    return {key: value for key, value in (old | new).items() if value != ""}
