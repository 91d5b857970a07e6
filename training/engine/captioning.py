"""What is captioned by whom. ``CaptioningSpec.from_dict`` is strict. Nothing here imports torch."""

from __future__ import annotations

import dataclasses
from typing import Any

from training.engine.fields import FieldInfo, describe, setting
from training.engine.fields import gettext_noop as _
from training.engine.parsing import SpecError, parse
from training.engine.spec import digest


@dataclasses.dataclass(frozen=True, slots=True)
class CaptioningSpec:
    """Hold one order for captions. Build it with ``from_dict``."""

    captioner: str = setting(kind="str", label=_("Captioner"), help=_("Who writes the captions."))
    model: str = setting(
        "",
        kind="path",
        label=_("Model"),
        help=_("Folder of the captioner's model; empty where it needs none."),
    )
    longest: int = setting(
        30, kind="int", label=_("Longest caption"), minimum=1, maximum=100, unit=_("words"),
        help=_("What a captioner has to say beyond that is left out."),
    )  # fmt: skip

    @classmethod
    def from_dict(cls, data: Any) -> CaptioningSpec:
        """Parse a mapping; raise the first SpecError."""
        errors: list[SpecError] = []
        spec = parse(cls, data, "", errors)
        if errors:
            raise errors[0]
        assert spec is not None
        return spec

    def to_dict(self) -> dict[str, Any]:
        """Return the whole order as JSON-ready data, defaults included."""
        return dataclasses.asdict(self)

    def sha256(self) -> str:
        """Return the hex digest of the canonical JSON form."""
        return digest(self.to_dict())


FIELDS: dict[str, FieldInfo] = describe(CaptioningSpec)
"""Every setting by JSON pointer."""
