"""The file that an adapter leaves as: how it is written, opened again and proved, for weights and for words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from training.engine.export import factors, verify, words
from training.engine.export.table import ExportTable
from training.engine.families.base import ModelFamily, Parts, TextRow
from training.engine.methods.base import Adapter
from training.engine.methods.changes import Change
from training.engine.methods.textual_inversion import WordAdapter


class AdapterFile(Protocol):
    """Be the kind of file of one adapter."""

    layout: str
    """What the file's names are made by."""
    dtype: str
    """Number format that the reading programs expect."""

    def tensors(self, dtype: torch.dtype) -> dict[str, Tensor]:
        """Return the content; raise ConfigurationError for what such a file cannot hold."""

    def read(self, path: Path) -> Any:
        """Open a written file and check that it holds what was trained; raise VerificationError."""

    def effect_error(
        self, read: Any, family: ModelFamily, prompt: str, text: TextRow, precision: str
    ) -> float:
        """Put what was read on a fresh model of ``family``; return the relative error of its effect on a prompt.

        ``text`` is the prompt as the trained model has it. Raise VerificationError if rounding does not explain it.
        """


class LayerFile:
    """Hold the changes of layers."""

    def __init__(self, table: ExportTable, parts: Parts, adapter: Adapter) -> None:
        """Raise ConfigurationError if the layout cannot hold what the adapter trains."""
        self._table, self._parts, self._adapter = table, parts, adapter
        self.layout: str = table.layout
        self.dtype: str = table.dtype
        factors.require_writable(table, adapter)

    def tensors(self, dtype: torch.dtype) -> dict[str, Tensor]:
        """Return the factors of every layer."""
        return factors.tensors(self._table, self._adapter, dtype)

    def read(self, path: Path) -> dict[str, Change]:
        """Read the factors, whose products must be the trained ones."""
        return verify.verify_file(path, self._table, self._parts, self._adapter)

    def effect_error(
        self, read: Mapping[str, Change], family: ModelFamily, prompt: str, text: TextRow, precision: str
    ) -> float:
        """Compare predictions of the denoiser."""
        return verify.verify_effect(read, family, self._table, self._parts, self._adapter, text, precision)


class WordFile:
    """Hold the rows of a new word."""

    layout, dtype = "word", "fp32"

    def __init__(self, family: ModelFamily, parts: Parts, adapter: WordAdapter) -> None:
        self._family, self._parts, self._adapter = family.name, parts, adapter

    def tensors(self, dtype: torch.dtype) -> dict[str, Tensor]:
        """Return the rows of every text encoder."""
        return words.tensors(self._family, self._adapter.rows(), dtype)

    def read(self, path: Path) -> dict[str, Tensor]:
        """Read the rows, which must be the trained ones and no longer the first ones."""
        return words.verify_word(path, self._family, self._adapter.rows(), self._adapter.first)

    def effect_error(
        self, read: Mapping[str, Tensor], family: ModelFamily, prompt: str, text: TextRow, precision: str
    ) -> float:
        """Compare how fresh text encoders read a prompt with the word."""
        return words.verify_reading(read, family, self._parts, self._adapter.word, prompt)


def file_of(family: ModelFamily, table: ExportTable, parts: Parts, adapter: Adapter) -> AdapterFile:
    """Return the kind of file that an adapter leaves as."""
    if isinstance(adapter, WordAdapter):
        return WordFile(family, parts, adapter)
    return LayerFile(table, parts, adapter)
