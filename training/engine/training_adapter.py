"""Train on a model that was distilled to draw in a few steps: with a LoRA that undoes it while training, and only then.

What is learned on top of it also fits the model without it, which still draws in few steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from torch import nn

from training.engine.data.manifest import file_sha256
from training.engine.errors import ConfigurationError
from training.engine.events import EventSink, Log
from training.engine.export.factors import VerificationError, read_factors
from training.engine.export.fitting import put_on
from training.engine.export.table import ExportTable
from training.engine.families.base import DENOISER, ModelFamily, Parts
from training.engine.methods.changes import Change
from training.engine.sections import TrainedBaseSpec


def require_trainable(family: ModelFamily, parts: Parts, base: TrainedBaseSpec) -> None:
    """Raise ConfigurationError for a distilled base model without a training adapter.

    The recipe's word counts more than what the model's files say, which for some models is nothing.
    """
    distilled = family.is_distilled(parts) if base.distilled == "auto" else base.distilled == "yes"
    if distilled and base.training_adapter is None:
        raise ConfigurationError(
            "base_model_distilled",
            "the base model was distilled to draw in a few steps, and training it as it is undoes that",
            hint="Give a training adapter made for it (base_model.training_adapter), or train on the model that it "
            "was distilled from.",
        )


class TrainingAdapter:
    """Hold a LoRA on a denoiser's frozen weights; without a file it is none, and nothing happens."""

    def __init__(self, file: str | None, sink: EventSink) -> None:
        """Read a file; raise ConfigurationError if it is not there or not whole."""
        self._name = Path(file).name if file else ""
        self._factors = _read(Path(file)) if file else {}
        self._sink = sink
        self._hooks = ExitStack()
        self._tables: list[ExportTable] = []
        self._models: dict[str, nn.Module] = {}
        self.sha256 = file_sha256(Path(file)) if file else None

    def put_on(self, family: ModelFamily, parts: Parts) -> None:
        """Put it on a denoiser until another gets it; raise ConfigurationError if it fits no layer."""
        self._tables = list(family.tables)
        self._models = {DENOISER: parts.denoiser}
        unused = self._hook()
        if self._factors and len(unused) == len(self._factors):
            raise ConfigurationError(
                "training_adapter_of_another_base", f"{self._name} fits no layer of this base model",
                hint="Give the training adapter that was made for this base model.",
            )  # fmt: skip
        if unused:
            self._sink.emit(Log("warning", f"{self._name}: {len(unused)} layers were left out."))

    def _hook(self) -> set[str]:
        self._hooks.close()
        return put_on(self._hooks, self._tables, self._models, self._factors)

    @contextmanager
    def off(self) -> Iterator[None]:
        """Take it away for a while: the model is then the one that the finished LoRA is used with."""
        self._hooks.close()
        try:
            yield
        finally:
            self._hook()


def _read(file: Path) -> dict[str, Change]:
    if not file.is_file():
        raise ConfigurationError(
            "training_adapter_missing", f"there is no training adapter {file.name}",
            hint="Give the path of its .safetensors file.",
        )  # fmt: skip
    try:
        return read_factors(file)
    except VerificationError as error:
        raise ConfigurationError(
            "training_adapter_unreadable", error.message, hint="Get the training adapter again."
        ) from error
