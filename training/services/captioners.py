"""Which captioners this installation offers: those that need no model, and the models in LF_CAPTIONERS_DIR."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.utils.translation import gettext as _

from core.errors import DomainError
from training.engine.registry import captioner_names

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}")
# Of our own captioners, those that are nothing without a model.
_NEED_A_MODEL = {"blip"}


@dataclass(frozen=True, slots=True)
class OfferedCaptioner:
    """Be one choice: `key` names it, `captioner` is the engine's name, `model` its folder or "" if it needs none."""

    key: str
    captioner: str
    model: str = ""
    size: int = 0
    """Bytes of the model's weights."""

    @property
    def name(self) -> str:
        return _("Colours and format") if self.key == "colours" else self.key

    @property
    def description(self) -> str:
        """Say what it writes."""
        if self.key == "colours":
            return _(
                "Tags that are read from the pixels: colours, light, contrast, format. It needs no model."
            )
        return _("Describes what is seen in the picture.") if self.model else ""


def captioner_path(model: str) -> Path:
    """Return where the model of a captioner lies on this machine."""
    return Path(settings.CAPTIONERS_DIR) / model


def offered_captioners() -> list[OfferedCaptioner]:
    """Return every captioner that can be chosen: first the models, by name, then those that need none."""
    known = captioner_names()
    models = [found for folder in _folders() if (found := _model_in(folder, known)) is not None]
    alone = set(known) - _NEED_A_MODEL - {each.captioner for each in models}
    return models + [OfferedCaptioner(key=name, captioner=name) for name in sorted(alone)]


def captioner_by_key(key: str) -> OfferedCaptioner:
    """Return an offered captioner; raise DomainError."""
    for each in offered_captioners():
        if each.key == key:
            return each
    raise DomainError(
        "captioner_unknown", _("Choose a captioner that is offered here."), pointer="/captioner"
    )


def _folders() -> list[Path]:
    try:
        return sorted(path for path in Path(settings.CAPTIONERS_DIR).iterdir() if path.is_dir())
    except OSError:  # there is no such folder
        return []


def _model_in(folder: Path, known: list[str]) -> OfferedCaptioner | None:
    """Return what a folder offers; None unless its config.json names a captioner and it has safe weights."""
    if not _KEY.fullmatch(folder.name) or folder.name in known:
        return None
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    except (OSError, ValueError):
        return None
    captioner = config.get("model_type") if isinstance(config, dict) else None
    if captioner not in known or not size:
        return None
    return OfferedCaptioner(folder.name, captioner, folder.name, size)
