"""The sections of a recipe that are about pictures and captions, as ``sections`` are about the rest.

Nothing here imports torch.
"""

from __future__ import annotations

import dataclasses

from training.engine.fields import gettext_noop as _
from training.engine.fields import setting


@dataclasses.dataclass(frozen=True, slots=True)
class DatasetSpec:
    """Name the pictures: a manifest, or a folder with a .txt caption beside each picture."""

    manifest: str | None = setting(
        None,
        kind="path",
        label=_("Manifest"),
        help=_("JSON list of pictures; paths are relative to the file."),
    )
    folder: str | None = setting(
        None, kind="path", label=_("Folder"), help=_("Pictures with captions in .txt files of the same name.")
    )
    repeats: int = setting(
        1, kind="int", label=_("Repeats"), minimum=1, maximum=1000,
        help=_("How often each picture is seen per epoch; multiplied by the picture's own repeats."),
    )  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class CaptionSpec:
    """Say how the text that is trained on is made from trigger word and caption."""

    template: str = setting(
        "{trigger}, {caption}", kind="str", label=_("Caption template"),
        help=_("{trigger} and {caption} are filled in; an empty one takes its comma with it."),
    )  # fmt: skip
    shuffle_tags: bool = setting(
        False,
        kind="bool",
        label=_("Shuffle tags"),
        help=_("Reorder comma-separated tags differently each epoch."),
    )
    keep_tags: int = setting(
        1, kind="int", label=_("Tags kept in front"), minimum=0, maximum=100,
        help=_("So many tags at the start stay in place when tags are shuffled."),
    )  # fmt: skip
    shuffle_variants: int = setting(
        4, kind="int", label=_("Orders per caption"), minimum=1, maximum=64,
        help=_("How many tag orders are encoded and cached for each caption."),
    )  # fmt: skip
