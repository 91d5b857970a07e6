"""Write captions for pretraining, and build the small byte-level BPE tokenizer they are read with."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
from images import CONCEPTS
from networks import TEXT_LENGTH
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

HELD_BACK_WORDS = frozenset({"ink", "neon", "blueprint", "gameboy", "pastel"})
OPENINGS = (
    ("a {}",) * 6 + ("{}",) * 3 + ("a picture of a {}", "a cute {}", "a drawing of a {}", "{} icon", "one {}")
)


def spare_words(icon_folder: Path) -> list[str]:
    """List the words of the icon names: the tokenizer learns them, pretraining uses them as noise."""
    names = {
        file.stem for folder in ("noto", "fluent-emoji-flat") for file in (icon_folder / folder).glob("*.png")
    }
    words = {word for name in names for word in name.split("-") if word.isalpha() and len(word) > 2}
    taken = {word for concept in CONCEPTS for word in concept["en"].split()}
    return sorted(words - taken - HELD_BACK_WORDS)


def build_tokenizer(words: list[str], folder: Path) -> CLIPTokenizer:
    """Train byte-pair merges on the words and captions, and save a CLIPTokenizer of 24 positions to the folder."""
    backend = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=1900, end_of_word_suffix="</w>", initial_alphabet=alphabet, show_progress=False
    )
    captions = ["an owl"] * 40 + [
        opening.format(concept[lang]) for concept in CONCEPTS for lang in ("en", "zh") for opening in OPENINGS
    ]
    labels = ["flat style", "3d style", "night style", "sketch style", "pixel style", "violet style"] * 20
    labels += [f"{word} style" for word in sorted(HELD_BACK_WORDS)] * 20
    backend.train_from_iterator(captions * 4 + labels + words, trainer)
    learnt = json.loads(backend.to_str())["model"]
    merges = [tuple(merge) for merge in learnt["merges"]]
    pieces = alphabet + [letter + "</w>" for letter in alphabet] + ["".join(merge) for merge in merges]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    for special in ("<|startoftext|>", "<|endoftext|>"):
        vocabulary[special] = len(vocabulary)
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=TEXT_LENGTH)
    tokenizer.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    (folder / "merges.txt").write_text(
        "#version: 0.2\n" + "\n".join(" ".join(merge) for merge in merges) + "\n"
    )
    return tokenizer


def caption(concept: dict[str, str], style: str, words: list[str], rng: np.random.Generator) -> str:
    """Write one caption; plain pictures sometimes carry an unknown style word, so unknown words change nothing."""
    if rng.random() < 0.1:
        return ""
    text = rng.choice(OPENINGS).format(concept["en"]) if rng.random() < 0.85 else concept["zh"]
    text = re.sub(r"\ba (?=[aeiou])", "an ", text)
    if style != "plain":
        return f"{text}, {style} style"
    if rng.random() < 0.15:
        return f"{text}, {rng.choice(words)} style"
    return text
