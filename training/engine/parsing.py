"""Strict parsing of a mapping into the dataclasses of ``spec``: nothing unknown passes, every error names its place."""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from typing import Any, TypeVar

from training.engine.errors import ConfigurationError
from training.engine.fields import LONGEST_PATH, LONGEST_TEXT, MOST_LINES, MOST_NUMBERS, FieldInfo

T = TypeVar("T")

MOST_ERRORS = 50
_UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")


class SpecError(ConfigurationError):
    """Report one wrong setting: where (JSON pointer), which kind (``code``) and what to do.

    Codes: ``unknown_key``, ``missing``, ``wrong_type``, ``out_of_range``, ``not_a_choice``, ``too_long``, ``bad_text``,
    ``conflict``. The message is ``template`` with ``values`` filled in, for who says it in another language.
    """

    def __init__(self, pointer: str, code: str, template: str, **values: int) -> None:
        super().__init__(code, template % values if values else template)
        self.pointer = pointer
        self.template = template
        self.values = values

    def __str__(self) -> str:
        return f"{self.pointer or '/'}: {self.message}"


def parse(cls: type[T], data: Any, pointer: str, errors: list[SpecError]) -> T | None:
    """Build ``cls`` from a mapping; append what is wrong to ``errors`` and return None if anything was."""
    if not isinstance(data, dict):
        errors.append(
            SpecError(pointer, "wrong_type", f"expected a section of settings, found {_kind(data)}")
        )
        return None
    known = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    before = len(errors)
    for key in data:
        if key not in known and len(errors) < MOST_ERRORS:
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5)
            advice = f"did you mean {near[0]!r}?" if near else f"known names: {', '.join(known)}"
            errors.append(
                SpecError(
                    f"{pointer}/{_shown(key)}", "unknown_key", f"unknown setting {_shown(key)!r}; {advice}"
                )
            )
    values: dict[str, Any] = {}
    for name, field in known.items():
        here = f"{pointer}/{name}"
        nested = field.metadata.get("section")
        if nested is not None:
            if name in data or field.default_factory is dataclasses.MISSING:
                values[name] = parse(nested, data.get(name, {}), here, errors)
            continue
        if (reader := field.metadata.get("reader")) is not None:
            if name in data:
                values[name] = reader(data[name], here, errors)
            continue
        info: FieldInfo = field.metadata["info"]
        if name not in data:
            if info.required:
                errors.append(SpecError(here, "missing", f"{name!r} is required: {info.help}"))
            continue
        try:
            values[name] = convert(info, data[name], here)
        except SpecError as error:
            errors.append(error)
    return None if len(errors) > before else cls(**values)


def convert(info: FieldInfo, value: Any, pointer: str) -> Any:
    """Return the value in the field's own type, or raise SpecError."""
    value = info.meant(value)
    if value is None:
        if info.nullable:
            return None
        raise SpecError(pointer, "wrong_type", f"a value is needed here, found nothing ({info.help})")
    if info.kind == "bool":
        if not isinstance(value, bool):
            raise SpecError(pointer, "wrong_type", f"expected true or false, found {_kind(value)}")
        return value
    if info.kind in ("int", "float"):
        return _number(info, value, pointer)
    if info.kind == "list":
        if not isinstance(value, (list, tuple)) or not all(isinstance(v, str) for v in value):
            raise SpecError(pointer, "wrong_type", "expected a list of texts")
        if len(value) > MOST_LINES:
            raise SpecError(pointer, "too_long", f"{len(value)} lines are too many; at most {MOST_LINES} fit")
        return tuple(_text(info, each, pointer) for each in value)
    if info.kind == "ints":
        if not isinstance(value, (list, tuple)):
            raise SpecError(pointer, "wrong_type", f"expected a list of whole numbers, found {_kind(value)}")
        if len(value) > MOST_NUMBERS:
            raise SpecError(
                pointer, "too_long", f"{len(value)} numbers are too many; at most {MOST_NUMBERS} fit"
            )
        return tuple(_number(info, each, pointer) for each in value)
    if not isinstance(value, str):
        raise SpecError(pointer, "wrong_type", f"expected text, found {_kind(value)}")
    value = _text(info, value, pointer)
    if info.required and not value.strip():
        raise SpecError(pointer, "missing", f"must not be empty: {info.help}")
    if info.choices and value not in info.choices:
        near = difflib.get_close_matches(value, info.choices, n=1)
        advice = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(info.choices)}"
        raise SpecError(pointer, "not_a_choice", f"{value[:100]!r} is not known here; {advice}")
    return value


def _text(info: FieldInfo, value: str, pointer: str) -> str:
    """Return a text that fits and that every file and database can hold."""
    longest = LONGEST_PATH if info.kind == "path" else LONGEST_TEXT
    if len(value) > longest:
        raise SpecError(pointer, "too_long", f"{len(value)} characters are too many; at most {longest} fit")
    if bad := _UNSTORABLE.search(value):
        raise SpecError(pointer, "bad_text", f"the character {bad.group()!r} cannot be stored; remove it")
    return value


def _number(info: FieldInfo, value: Any, pointer: str) -> int | float:
    if isinstance(value, str):
        try:
            value = float(value)  # YAML 1.1 reads 1e-4 as text
        except ValueError:
            raise SpecError(pointer, "wrong_type", f"expected a number, found {value[:100]!r}") from None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise SpecError(pointer, "wrong_type", f"expected a number, found {_kind(value)}")
    if isinstance(value, int) and abs(value) >= 2**64:  # too large for a float
        raise SpecError(pointer, "out_of_range", "the number is far out of range")
    if not math.isfinite(value):
        raise SpecError(pointer, "wrong_type", "expected a finite number")
    whole = info.kind in ("int", "ints")
    if whole and value != int(value):
        raise SpecError(pointer, "wrong_type", f"expected a whole number, found {value}")
    number: int | float = int(value) if whole else float(value)
    low, high = info.minimum, info.maximum
    if (low is not None and number < low) or (high is not None and number > high):
        if low is not None and high is not None:
            limits = f"between {low:g} and {high:g}"
        else:
            limits = f"at least {low:g}" if low is not None else f"at most {high:g}"
        raise SpecError(pointer, "out_of_range", f"{number:g} is out of range; it must be {limits}")
    return number


def _shown(key: Any) -> str:
    """Return the name of a setting as it may be repeated in a message: short, and of storable characters."""
    return _UNSTORABLE.sub("�", str(key))[:100]


def _kind(value: Any) -> str:
    return {dict: "a section", list: "a list", str: "text", bool: "true or false", type(None): "nothing"}.get(
        type(value), type(value).__name__
    )
