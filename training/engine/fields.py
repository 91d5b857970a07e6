"""How one setting of a run is described: label, unit, limits, default, help.

The description sits in the dataclass field's metadata (see ``spec``), so that the parser, the web form and
the printed reference can never disagree.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

Kind = Literal["str", "path", "int", "float", "bool", "choice", "list", "ints"]
"""A ``list`` is one of texts, ``ints`` one of whole numbers."""

LONGEST_TEXT, LONGEST_PATH = 1000, 4096
"""Characters that a text (or one line of a list) may have, and a path."""
MOST_LINES = 16
"""Lines of a list: each prompt is drawn at every round of samples."""
MOST_NUMBERS = 8
"""Numbers of a list."""


def gettext_noop(message: str) -> str:
    """Mark a string for translation; the web layer translates it when it is shown."""
    return message


@dataclasses.dataclass(frozen=True, slots=True)
class FieldInfo:
    """Describe one leaf of the run specification for a parser, a form or a manual."""

    pointer: str
    kind: Kind
    label: str
    help: str
    unit: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    booleans: tuple[str, str] | None = None
    """Of a choice: what false and true mean, of a recipe made when it was a switch or written as ``off`` in YAML."""
    default: Any = None
    required: bool = False
    nullable: bool = False
    advanced: bool = True

    def meant(self, value: Any) -> Any:
        """Return a value as it is meant: of a choice, false and true may be names of choices."""
        return self.booleans[value] if self.booleans and isinstance(value, bool) else value


def setting(
    default: Any = dataclasses.MISSING,
    *,
    kind: Kind,
    label: str,
    help: str,
    unit: str | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
    booleans: tuple[str, str] | None = None,
    nullable: bool = False,
    advanced: bool = True,
) -> Any:
    """Declare a dataclass field together with its description."""
    info = FieldInfo(
        pointer="", kind=kind, label=label, help=help, unit=unit, minimum=minimum, maximum=maximum,
        choices=choices, booleans=booleans, default=None if default is dataclasses.MISSING else default,
        required=default is dataclasses.MISSING, nullable=nullable or default is None, advanced=advanced,
    )  # fmt: skip
    if default is dataclasses.MISSING:
        return dataclasses.field(metadata={"info": info})
    return dataclasses.field(default=default, metadata={"info": info})


def describe(cls: type, pointer: str = "") -> dict[str, FieldInfo]:
    """Collect the descriptions of a dataclass and of the sections below it, keyed by JSON pointer."""
    found: dict[str, FieldInfo] = {}
    for field in dataclasses.fields(cls):
        here = f"{pointer}/{field.name}"
        section = field.metadata.get("section")
        if section is not None:
            found.update(describe(section, here))
        elif "info" in field.metadata:
            found[here] = dataclasses.replace(field.metadata["info"], pointer=here)
    return found


def section(cls: type) -> Any:
    """Declare a nested section; a section whose fields all have defaults may be left out."""
    needed = any(
        f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        for f in dataclasses.fields(cls)
    )
    if needed:
        return dataclasses.field(metadata={"section": cls})
    return dataclasses.field(default_factory=cls, metadata={"section": cls})
