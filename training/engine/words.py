"""A word of one's own: text encoders of a loaded model know it, as rows beside their embedding, for as long as wanted.

A word of several rows is written ``inky inky_1 inky_2`` for the tokenizer, as diffusers does
(loaders/textual_inversion.py).
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AddedToken

from training.engine.errors import ConfigurationError
from training.engine.families.base import Parts

LEGACY_END = 2
"""What old CLIP configs call the last token; the model then looks for the largest number, which a new word has."""


class NewWord:
    """Let encoders of a model know a word. ``vectors`` maps each of them to its rows (K, D), all of one K."""

    def __init__(self, parts: Parts, word: str, vectors: Mapping[str, Tensor]) -> None:
        """Put the word in; raise ConfigurationError for one that the tokenizer cannot tell from others."""
        self.word = word
        self._parts = parts
        self._undo: list[Any] = []
        self.tables: dict[str, WordEmbedding] = {}
        (count,) = {len(rows) for rows in vectors.values()}
        for name in vectors:
            require_free(word, parts.components[tokenizer_of(name)], count)
        for name, rows in vectors.items():
            self._teach(name, word, rows)

    def _teach(self, name: str, word: str, rows: Tensor) -> None:
        encoder, plain = self._parts.components[name], self._parts.components[tokenizer_of(name)]
        tokenizer = WordTokenizer(plain, word, len(rows))
        embedding = encoder.get_input_embeddings()
        self.tables[name] = table = WordEmbedding(
            embedding, tokenizer.first, rows.to(embedding.weight.device)
        )
        encoder.set_input_embeddings(table)
        self._parts.components[tokenizer_of(name)] = tokenizer
        ends = [module for module in encoder.modules() if getattr(module, "eos_token_id", None) == LEGACY_END]
        for module in ends:
            module.eos_token_id = plain.eos_token_id
        self._undo.append((encoder, embedding, tokenizer_of(name), plain, ends))

    @contextmanager
    def unsaid(self) -> Iterator[None]:
        """Let the model read the word as it did before, for a while."""
        tokenizers = [self._parts.components[tokenizer_of(name)] for name in self.tables]
        for tokenizer in tokenizers:
            tokenizer.is_known = False
        try:
            yield
        finally:
            for tokenizer in tokenizers:
                tokenizer.is_known = True

    def forget(self) -> None:
        """Take the word out again."""
        for encoder, embedding, tokenizer_name, plain, ends in self._undo:
            encoder.set_input_embeddings(embedding)
            self._parts.components[tokenizer_name] = plain
            for module in ends:
                module.eos_token_id = LEGACY_END
        self._undo.clear()


@contextmanager
def known_word(parts: Parts, word: str, vectors: Mapping[str, Tensor]) -> Iterator[None]:
    """Let a model know a word for a while."""
    new = NewWord(parts, word, vectors)
    try:
        yield
    finally:
        new.forget()


def tokenizer_of(encoder: str) -> str:
    """Return the component name of a text encoder's tokenizer."""
    return encoder.replace("text_encoder", "tokenizer")


def tokens_of(word: str, count: int) -> list[str]:
    """Return the tokens that a word of so many rows is written as."""
    return [word, *(f"{word}_{number}" for number in range(1, count))]


def require_free(word: str, tokenizer: Any, count: int) -> None:
    """Raise ConfigurationError for a word that is empty, parted by a space, or a token already."""
    vocabulary = tokenizer.get_vocab()
    taken = [token for token in tokens_of(word, count) if {token, token.lower()} & vocabulary.keys()]
    if not word or re.search(r"\s", word) or taken:
        raise ConfigurationError(
            "word_taken", f"{word!r} cannot become a word of its own" + (f": {taken[0]!r} is one" if taken else ""),
            hint="Choose one word that does not exist, such as a name with a number in it.",
        )  # fmt: skip


class WordEmbedding(nn.Module):
    """Look up tokens below ``first`` in the frozen table, the others in ``vectors`` (K, D), which are fp32."""

    def __init__(self, base: nn.Embedding, first: int, vectors: Tensor) -> None:
        super().__init__()
        self.base = base
        self.vectors = nn.Parameter(vectors.detach().to(torch.float32).clone(), requires_grad=False)
        self._first = first

    @property
    def weight(self) -> Tensor:
        """Return the frozen table."""
        return self.base.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (B, L, D) in the number format of the frozen table."""
        known: Tensor = self.base(tokens.clamp(max=self._first - 1))
        own = functional.embedding((tokens - self._first).clamp(min=0), self.vectors)
        return torch.where((tokens >= self._first).unsqueeze(-1), own.to(known.dtype), known)


class WordTokenizer:
    """Be a tokenizer that knows one word more, or for a while does not."""

    def __init__(self, plain: Any, word: str, count: int) -> None:
        self._plain = plain
        self._extended = copy.deepcopy(plain)
        tokens = tokens_of(word, count)
        self._extended.add_tokens([AddedToken(token, single_word=True) for token in tokens])
        self.first: int = self._extended.convert_tokens_to_ids(tokens[0])
        self.is_known = True
        self._word = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)", re.IGNORECASE)
        self._written = " ".join(tokens)

    added_tokens_encoder: Mapping[str, int] = {}
    """None to be seen: the pipelines of diffusers write a word out themselves where they find one here."""

    def __call__(self, text: str | list[str], *args: Any, **options: Any) -> Any:
        """Tokenize with the word written out."""
        if not self.is_known:
            return self._plain(text, *args, **options)
        texts = [text] if isinstance(text, str) else text
        written = [self._word.sub(lambda _: self._written, each) for each in texts]
        return self._extended(written[0] if isinstance(text, str) else written, *args, **options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._extended if self.is_known else self._plain, name)

    def __len__(self) -> int:
        return len(self._extended if self.is_known else self._plain)
