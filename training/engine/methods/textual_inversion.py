"""Textual inversion (Gal et al. 2022): the model stays as it is, and a new word is found for what it is to draw."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from training.engine.errors import ConfigurationError
from training.engine.export.words import KEYS
from training.engine.families.base import ModelFamily, Parts
from training.engine.methods.base import ParameterGroup, WeightDelta
from training.engine.spec import RunSpec
from training.engine.words import NewWord, tokenizer_of


class TextualInversion:
    """Train the embedding of the trigger word, one row or several in each text encoder."""

    name = "textual_inversion"

    def changes_text(self, spec: RunSpec) -> bool:
        """Tell that prompts are read anew each time."""
        return True

    def check(self, family: ModelFamily, parts: Parts, spec: RunSpec) -> None:
        """Raise ConfigurationError for a family whose words no program reads."""
        if family.name not in KEYS:
            raise ConfigurationError(
                "method_unsupported", f"no program reads the words of a {family.title}",
                hint=f"Train a LoRA; words are for {' and '.join(KEYS)}.", patch={"/method/type": "lora"},
            )  # fmt: skip

    def attach(self, family: ModelFamily, parts: Parts, spec: RunSpec) -> WordAdapter:
        """Let the encoders know the trigger word; its rows begin as those of the initial words."""
        self.check(family, parts, spec)
        words = spec.method.initial_words or spec.trigger
        first = {name: _rows(parts, name, words) for name in KEYS[family.name]}
        count = spec.method.vectors or max(map(len, first.values()))
        spread = {name: rows[torch.arange(count) * len(rows) // count] for name, rows in first.items()}
        return WordAdapter(NewWord(parts, spec.trigger, spread), spread, spec.training.learning_rate)


def _rows(parts: Parts, name: str, words: str) -> Tensor:
    """Return the embedding (K, D) of some words, in fp32 on the CPU."""
    table: Any = parts.components[name].get_input_embeddings()
    ids = parts.components[tokenizer_of(name)](words, add_special_tokens=False).input_ids
    if not ids:
        raise ConfigurationError(
            "no_initial_words",
            f"the {name} knows nothing of {words!r}",
            hint="Give another word to begin with.",
        )
    rows: Tensor = table.weight.detach()[torch.tensor(ids)].float().cpu()
    return rows


class WordAdapter:
    """Hold the rows of one new word in each text encoder."""

    def __init__(self, word: NewWord, first: Mapping[str, Tensor], learning_rate: float) -> None:
        self.word, self.first, self._rate = word, first, learning_rate
        self.modules = len(first)
        for parameter in self._named().values():
            parameter.requires_grad_(True)

    def _named(self) -> dict[str, nn.Parameter]:
        return {f"{name}.vectors": table.vectors for name, table in self.word.tables.items()}

    def initialise(self, seed: int) -> None:
        """Begin again with the rows of the initial words, whatever the seed."""
        with torch.no_grad():
            for name, table in self.word.tables.items():
                table.vectors.copy_(self.first[name])

    def groups(self) -> list[ParameterGroup]:
        """Return the rows of all encoders."""
        return [ParameterGroup("word", list(self._named().items()), self._rate)]

    def disabled(self) -> AbstractContextManager[None]:
        """Let the encoders read the trigger word as any other."""
        return self.word.unsaid()

    def detach(self) -> None:
        """Take the word out of the encoders and tokenizers."""
        self.word.forget()

    def state_dict(self) -> dict[str, Tensor]:
        """Return copies of all rows on the CPU."""
        return {name: p.detach().to("cpu", copy=True).contiguous() for name, p in self._named().items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Copy saved rows into the live ones."""
        own = self._named()
        if {name: p.shape for name, p in own.items()} != {name: t.shape for name, t in state.items()}:
            raise ValueError(f"the saved word has other rows: {', '.join(sorted(state))}")
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(state[name])

    def deltas(self) -> Iterator[WeightDelta]:
        """Yield nothing: no weight changes."""
        return iter(())

    def rows(self) -> dict[str, Tensor]:
        """Return the rows (K, D) of each text encoder."""
        return {name: table.vectors.detach() for name, table in self.word.tables.items()}
