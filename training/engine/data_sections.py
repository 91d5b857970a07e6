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
    folder_repeats: bool = setting(
        False, kind="bool", label=_("Repeats from folder names"),
        help=_("A folder named 10_plates shows its pictures ten times per epoch."),
    )  # fmt: skip
    caption_per_line: bool = setting(
        False, kind="bool", label=_("One caption per line"),
        help=_("Each line of a caption file is a caption of its own; one of them is drawn each time."),
    )  # fmt: skip
    held_out_manifest: str | None = setting(
        None, kind="path", label=_("Manifest of held-out pictures"),
        help=_("JSON list of pictures that are only measured on, instead of a share of the set."),
    )  # fmt: skip
    held_out_folder: str | None = setting(
        None, kind="path", label=_("Folder of held-out pictures"),
        help=_("Pictures that are only measured on, instead of a share of the set."),
    )  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class BucketSpec:
    """Say which shapes pictures are brought to: a bucket is one of these shapes, and every batch is of one bucket."""

    enlarge: float = setting(
        1.5, kind="float", label=_("Most enlargement"), minimum=1.0, maximum=16.0,
        help=_("A picture is trained at those sizes that need no more enlarging than this; 1 is none at all."),
    )  # fmt: skip
    small_pictures: str = setting(
        "enlarge", kind="choice", choices=("enlarge", "own_size"), label=_("Pictures too small for every size"),
        help=_("enlarge: brought to the smallest size all the same; own_size: trained in their own size."),
    )  # fmt: skip
    step: int | None = setting(
        None, kind="int", label=_("Bucket step"), minimum=8, maximum=1024, unit=_("pixels"),
        help=_("Sides of buckets are multiples of it; empty takes an eighth of the resolution."),
    )  # fmt: skip
    smallest_side: int | None = setting(
        None, kind="int", label=_("Smallest side of a bucket"), minimum=8, maximum=4096, unit=_("pixels"),
        help=_("No bucket is narrower or lower."),
    )  # fmt: skip
    largest_side: int | None = setting(
        None, kind="int", label=_("Largest side of a bucket"), minimum=8, maximum=16384, unit=_("pixels"),
        help=_("No bucket is wider or higher."),
    )  # fmt: skip
    aspect_limit: float = setting(
        3.0, kind="float", label=_("Longest shape"), minimum=1.0, maximum=16.0,
        help=_("Long side of a bucket by its short side, at most; longer pictures are cropped. 1: squares only."),
    )  # fmt: skip
    fill: bool = setting(
        False, kind="bool", label=_("Fill small batches"),
        help=_("A batch short of pictures shows its own again, with other noise; each picture counts the same."),
    )  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class MaskSpec:
    """Say which parts of pictures are learned: those that a mask shows white, or that are not transparent."""

    source: str = setting(
        "files", kind="choice", choices=("files", "alpha", "any", "none"), label=_("Masks"),
        help=_("files: of the set; alpha: the picture's own transparency; any: a file if there is one, else alpha."),
    )  # fmt: skip
    outside: float = setting(
        0.1, kind="float", label=_("Weight outside the mask"), minimum=0.0, maximum=1.0,
        help=_("How much the rest of the picture counts; 0 is not at all, which lets it drift."),
    )  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class RegularisationSpec:
    """Name pictures of the same kind that keep the model from taking every such thing for what is taught."""

    manifest: str | None = setting(
        None, kind="path", label=_("Manifest of regularisation pictures"),
        help=_("JSON list as of the picture set; none is no regularisation."),
    )  # fmt: skip
    folder: str | None = setting(
        None, kind="path", label=_("Folder of regularisation pictures"),
        help=_("Pictures with captions in .txt files; none is no regularisation."),
    )  # fmt: skip
    ratio: float = setting(
        1.0, kind="float", label=_("Regularisation pictures per picture"), minimum=0.01, maximum=100.0,
        help=_("So many are mixed in for each picture of an epoch; the next epoch goes on with others."),
    )  # fmt: skip
    weight: float = setting(
        1.0, kind="float", label=_("Weight of regularisation"), minimum=0.0, maximum=10.0,
        help=_("How much their loss counts beside that of the picture set."),
    )  # fmt: skip
    template: str = setting(
        "{caption}", kind="str", label=_("Caption of regularisation pictures"),
        help=_("{caption} is filled in; without it one text for all, for example: a photo of a dog."),
    )  # fmt: skip

    @property
    def is_on(self) -> bool:
        """Tell whether there are such pictures."""
        return self.manifest is not None or self.folder is not None

    def samples(self, others: int) -> int:
        """Return how many of them an epoch has beside so many other samples, where there are any."""
        return max(1, round(others * self.ratio)) if others else 0


@dataclasses.dataclass(frozen=True, slots=True)
class PriorSpec:
    """Keep what the base model knows of the class of things that the subject is one of (DreamBooth)."""

    prompt: str = setting(
        "", kind="str", label=_("Class prompt"),
        help=_("What every picture of the class shows, without the trigger word, for example: a photo of a dog."),
    )  # fmt: skip
    count: int = setting(
        0, kind="int", label=_("Class pictures"), minimum=0, maximum=5000, unit=_("pictures"),
        help=_("Before training the base model draws as many as the regularisation pictures lack; 0 draws none."),
    )  # fmt: skip
    steps: int = setting(
        25, kind="int", label=_("Denoising steps of class pictures"), minimum=1, maximum=100, unit=_("steps"),
        help=_("More take longer and show finer detail."),
    )  # fmt: skip
    guidance: float | None = setting(
        None, kind="float", label=_("Guidance of class pictures"), minimum=1.0, maximum=50.0,
        help=_("How closely they follow the class prompt; empty takes what suits the base model."),
    )  # fmt: skip
    teacher: bool = setting(
        False, kind="bool", label=_("Learn the class from the base model"),
        help=_(
            "Regularisation pictures teach what the base model itself predicts, not what they show; without any, the "
            "picture set with the class prompt does. No pictures are needed, but each such sample takes longer."
        ),
    )  # fmt: skip

    @property
    def is_on(self) -> bool:
        """Tell whether samples of the class are mixed in."""
        return self.count > 0 or self.teacher


@dataclasses.dataclass(frozen=True, slots=True)
class CaptionSpec:
    """Say how the text that is trained on is made from trigger word and caption."""

    template: str = setting(
        "{trigger}, {caption}", kind="str", label=_("Caption template"),
        help=_("{trigger} and {caption} are filled in; an empty one takes its comma with it."),
    )  # fmt: skip
    style: str = setting(
        "tags", kind="choice", choices=("tags", "sentences", "auto"), label=_("Captions are"),
        help=_("tags: parts between commas may move or be left out; sentences: never; auto: by each caption's look."),
    )  # fmt: skip
    shuffle_tags: bool = setting(
        False,
        kind="bool",
        label=_("Shuffle tags"),
        help=_("Reorder comma-separated tags differently each epoch."),
    )
    keep_tags: int = setting(
        1, kind="int", label=_("Tags kept in front"), minimum=0, maximum=100, unit=_("tags"),
        help=_("So many tags at the start are never moved or left out."),
    )  # fmt: skip
    keep_separator: str = setting(
        "|||", kind="str", label=_("Mark behind kept tags"),
        help=_("Tags before it in a caption are kept instead, and tags behind a second one; it is not trained itself."),
    )  # fmt: skip
    tag_dropout: float = setting(
        0.0, kind="float", label=_("Tag dropout"), minimum=0.0, maximum=1.0,
        help=_("Share of the tags that are left out, others in each form of a caption; kept tags never are."),
    )  # fmt: skip
    shuffle_variants: int = setting(
        4, kind="int", label=_("Forms per caption"), minimum=1, maximum=64,
        help=_("How many orders and choices of tags are encoded and cached for each caption."),
    )  # fmt: skip
