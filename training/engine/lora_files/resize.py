"""Bring a LoRA file to a smaller rank, each module by the best approximation there is (SVD)."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from training.engine.errors import ConfigurationError
from training.engine.lora_files import reading, svd, writing
from training.engine.lora_files.mapping import inner_shapes
from training.engine.methods.changes import Change, Decomposed


@dataclasses.dataclass(frozen=True)
class Smaller:
    """Say what became of each module: its rank before and after, and the share of its norm that is kept."""

    sha256: str
    cuts: Mapping[str, svd.Cut]
    before: Mapping[str, int | None]

    @property
    def kept(self) -> float:
        """Return the share of the norm of all modules together."""
        return svd.share(self.cuts.values())

    @property
    def ranks(self) -> dict[int, int]:
        """Return how many modules have each rank."""
        return dict(sorted(Counter(cut.rank for cut in self.cuts.values()).items()))


def resize(
    path: Path, out: Path, *, rank: int | None = None, keep: float | None = None, base: Path | None = None,
    dtype: str | None = None, force: bool = False,
) -> Smaller:  # fmt: skip
    """Write ``out`` with the rank ``rank``, or the smallest that keeps the share ``keep`` of each module, or both.

    A module is never given a higher rank than it needs; the strength stays the same. LoHa and LoKr become LoRA. Raise
    ConfigurationError for limits that make no sense, and for DoRA.
    """
    require_limits(rank, keep)
    writing.require_free(out, force)
    file = reading.read(path)
    _require_plain(file.changes)
    cuts = {stem: svd.decompose(change, rank).cut(rank, keep) for stem, change in file.changes.items()}
    shapes = inner_shapes(file, base=base)
    changes = {stem: cut.change(shapes[stem]) for stem, cut in cuts.items()}
    how = " and ".join([f"rank {rank}"] * (rank is not None) + [f"share {keep}"] * (keep is not None))
    about = writing.inherited(file, f"resize to {how}", changes)
    digest = writing.save(out, file.layout, changes, writing.dtype_of(dtype, file), about)
    return Smaller(digest, cuts, {stem: change.rank for stem, change in file.changes.items()})


def require_limits(rank: int | None, keep: float | None) -> None:
    """Raise ConfigurationError unless there is a rank of 1 or more, or a share in (0, 1]."""
    if rank is None and keep is None:
        raise ConfigurationError(
            "limit_missing", "how small?", hint="Add --rank 16, or --keep 0.95, or both."
        )
    if rank is not None and rank < 1:
        raise ConfigurationError("limit_invalid", f"a rank of {rank} is none", hint="Give 1 or more.")
    if keep is not None and not 0 < keep <= 1:
        raise ConfigurationError(
            "limit_invalid", f"a share of {keep} is none", hint="Give more than 0 and up to 1."
        )


def _require_plain(changes: Mapping[str, Change]) -> None:
    stem = next((stem for stem, change in changes.items() if isinstance(change, Decomposed)), None)
    if stem is not None:
        raise ConfigurationError(
            "base_model_needed", f"{stem!r} is a DoRA, whose effect depends on the base model's weights",
            hint="Make a plain LoRA of it: lora-train merge FILE --rank R --base FOLDER -o OUT.",
        )  # fmt: skip
