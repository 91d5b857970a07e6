"""Every setting of a recipe for an editor (JSON Schema) and for a reader (a page), from the descriptions that parse it.

Nothing here imports torch.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from training.engine.fields import LONGEST_PATH, LONGEST_TEXT, MOST_LINES, MOST_NUMBERS, FieldInfo
from training.engine.short_names import NAMES
from training.engine.spec import FIELDS, RunSpec

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_TYPES = {"str": "string", "path": "string", "choice": "string", "bool": "boolean"}
_KINDS = {"str": "text", "path": "path", "choice": "one of", "bool": "true or false", "int": "whole number",
          "float": "number", "list": "list of texts", "ints": "list of whole numbers"}  # fmt: skip


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a recipe file: sections, and short names beside them.

    What settings mean to each other, such as steps or epochs but not both, is beyond it: ``lora-train validate``.
    """
    schema = _section(RunSpec, "")
    properties = schema["properties"]
    for name, pointer in NAMES.items():
        own = {"description": f"Short for {_dotted(pointer)}.", **_setting(FIELDS[pointer])}
        properties[name] = {"anyOf": [properties[name], own]} if name in properties else own
    # With short names the name follows from the output folder.
    del schema["required"]
    return {"$schema": DIALECT, "title": "Recipe of a LoRA", **schema}


def _section(cls: type, pointer: str) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    required = []
    for field in dataclasses.fields(cls):
        here = f"{pointer}/{field.name}"
        nested = field.metadata.get("section")
        properties[field.name] = _section(nested, here) if nested else _setting(FIELDS[here])
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            required.append(field.name)
    schema = {"type": "object", "additionalProperties": False, "properties": properties}
    return {**schema, "required": required} if required else schema


def _setting(info: FieldInfo) -> dict[str, Any]:
    schema: dict[str, Any] = {"title": info.label, "description": info.help}
    if info.unit:
        schema["x-unit"] = info.unit
    if not info.required:
        schema["default"] = list(info.default) if isinstance(info.default, tuple) else info.default
    values = _values(info)
    if info.nullable:
        types = values["type"]
        values["type"] = [*types, "null"] if isinstance(types, list) else [types, "null"]
        if "enum" in values:
            values["enum"] = [*values["enum"], None]
    return {**schema, **values}


def _values(info: FieldInfo) -> dict[str, Any]:
    """Return which values a setting takes, as JSON Schema says it."""
    if info.kind in ("int", "float"):
        return _number(info)
    if info.kind == "ints":
        return {"type": "array", "items": _number(info), "maxItems": MOST_NUMBERS}
    if info.kind == "list":
        text = {"type": "string", "maxLength": LONGEST_TEXT}
        return {"type": "array", "items": text, "maxItems": MOST_LINES}
    values: dict[str, Any] = {"type": _TYPES[info.kind]}
    if info.kind == "choice":
        values["enum"] = list(info.choices)
        if info.booleans:
            values = {"type": ["string", "boolean"], "enum": [*info.choices, False, True]}
    elif info.kind != "bool":
        values["maxLength"] = LONGEST_PATH if info.kind == "path" else LONGEST_TEXT
        if info.required:
            values["minLength"] = 1
    return values


def _number(info: FieldInfo) -> dict[str, Any]:
    limits = {"minimum": info.minimum, "maximum": info.maximum}
    known = {name: limit for name, limit in limits.items() if limit is not None}
    return {"type": "number" if info.kind == "float" else "integer", **known}


def settings_page() -> str:
    """Return a page in Markdown that has every setting with kind, range, unit, default and meaning."""
    lines = [
        "# Every setting", "",
        "Made by `lora-train settings` from the descriptions that check a recipe; `lora-train schema` prints the",
        "same as JSON Schema. A complete recipe with remarks is in [trainer.md](trainer.md).",
    ]  # fmt: skip
    section = None
    # The recipe's own settings stand between its sections in a file; here they come first.
    for pointer, info in sorted(FIELDS.items(), key=lambda item: item[0].count("/") > 1):
        here = _dotted(pointer.rpartition("/")[0])
        if here != section:
            section = here
            lines += ["", f"## {f'`{here}`' if here else 'The recipe itself'}", ""]
            lines += ["| setting | values | unit | default | meaning |", "|---|---|---|---|---|"]
        cells = [f"`{pointer.rpartition('/')[2]}`", _range(info), info.unit or "", _default(info), info.help]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    lines += ["", "## Short names", "", "A file may do without sections, and use these names:", ""]
    lines += ["| name | setting |", "|---|---|"]
    lines += [f"| `{name}` | `{_dotted(NAMES[name])}` |" for name in sorted(NAMES)]
    return "\n".join(lines) + "\n"


def _range(info: FieldInfo) -> str:
    words = _KINDS[info.kind]
    if info.kind == "choice":
        words += " " + ", ".join(f"`{choice}`" for choice in info.choices)
    if info.kind in ("int", "float", "ints"):
        words += f", {_plain(info.minimum)} to {_plain(info.maximum)}"
    return words


def _plain(limit: float | None) -> str:
    """Return a limit without the rounding of long whole numbers."""
    return "any" if limit is None else str(limit) if isinstance(limit, int) else f"{limit:g}"


def _default(info: FieldInfo) -> str:
    if info.required:
        return "required"
    if info.default is None:
        return "none"
    value = list(info.default) if isinstance(info.default, tuple) else info.default
    return f"`{json.dumps(value)}`"


def _dotted(pointer: str) -> str:
    return pointer.strip("/").replace("/", ".")
