"""Say all that can be known of a LoRA file, also of one that no program would read."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from training.engine.errors import DataError
from training.engine.export import words
from training.engine.export.factors import SUFFIXES, VerificationError
from training.engine.export.weights_file import read_metadata
from training.engine.families.base import DENOISER
from training.engine.lora_files import reading

CHUNK = 1 << 20
METHODS = {"down": "LoRA", "hada_w1_a": "LoHa", "lokr_w1": "LoKr", "lokr_w1_a": "LoKr"}
"""The tensor that tells a method."""
INNER = ("down", "hada_w1_b", "lokr_w2_b", "lokr_w1_b")
"""Tensors whose first side is the rank."""
ENCODERS = ("lora_te1", "lora_te2", "lora_te3", "lora_te", "text_encoder_2", "text_encoder_3", "text_encoder")


@dataclasses.dataclass
class PartReport:
    """Count the modules of one part by rank, alpha and method."""

    modules: int = 0
    ranks: dict[int, int] = dataclasses.field(default_factory=dict)
    alphas: dict[float, int] = dataclasses.field(default_factory=dict)
    methods: dict[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Report:
    """Be what a file holds; ``problems`` are reasons why programs will not read it, or not as it was made.

    ``family_from`` is "metadata", "names" or None; ``hashes`` are "matches", "differs" or "missing"; ``norms`` are
    Frobenius norms of the changes by module, if they were asked for.
    """

    file: str
    bytes: int
    layout: str | None
    family: str | None
    family_from: str | None
    modules: int
    tensors: int
    parameters: int
    dtypes: dict[str, int]
    parts: dict[str, PartReport]
    trigger_words: list[str]
    hashes: dict[str, str]
    sha256: str
    problems: list[str]
    metadata: dict[str, str]
    norms: dict[str, float] | None = None

    def as_json(self) -> str:
        """Return all of it as JSON."""
        return json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False)


@dataclasses.dataclass
class WordReport:
    """Be what a file of textual inversion holds: ``word`` gives (rows, width) by name; else as in ``Report``."""

    file: str
    bytes: int
    family: str
    word: dict[str, tuple[int, int]]
    trigger_words: list[str]
    hashes: dict[str, str]
    sha256: str
    problems: list[str]
    metadata: dict[str, str]

    def as_json(self) -> str:
        """Return all of it as JSON."""
        return json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False)


def inspect_word(path: Path) -> WordReport | None:
    """Report the word that a file holds; return None for a file of another kind."""
    shapes = words.word_shapes(path)
    family = next((name for name, keys in words.KEYS.items() if shapes.keys() == set(keys.values())), None)
    if family is None:
        return None
    metadata = read_metadata(path)
    hashes, sha256, problems = _hashes(path, metadata)
    try:
        words.read_word(path, family)
    except VerificationError as error:
        problems.insert(0, error.message)
    return WordReport(
        path.name, path.stat().st_size, family, shapes, reading.trigger_words(metadata), hashes, sha256, problems,
        metadata,
    )  # fmt: skip


def inspect(path: Path, *, norms: bool = False) -> Report:
    """Report what a file holds; raise DataError only for what is not a whole safetensors file."""
    content = reading.header(path)
    metadata = read_metadata(path)
    groups: dict[str, dict[str, str]] = {}
    unknown = []
    for key in content:
        suffix = next((each for each in SUFFIXES if key.endswith(each)), None)
        if suffix is None:
            unknown.append(key)
        else:
            groups.setdefault(key.removesuffix(suffix), {})[SUFFIXES[suffix]] = key
    problems = [f"no program reads {key!r}" for key in unknown]
    parts: dict[str, PartReport] = {}
    with safe_open(path, "pt") as file:
        for stem, group in groups.items():
            problems += _counted(stem, group, file, content, parts.setdefault(_part(stem), PartReport()))
    layouts = {layout for stem in groups if (layout := reading.layout_of(stem))}
    told, named = reading.family_by_metadata(metadata), reading.family_by_names(groups)
    if not problems:
        problems += _refusal(path)
    hashes, sha256, differing = _hashes(path, metadata)
    problems += differing
    return Report(
        file=path.name, bytes=path.stat().st_size, layout=layouts.pop() if len(layouts) == 1 else None,
        family=told or named, family_from="metadata" if told else "names" if named else None,
        modules=len(groups), tensors=len(content),
        parameters=sum(torch.Size(shape).numel() for _, shape in content.values()),
        dtypes=dict(Counter(dtype for dtype, _ in content.values())), parts=parts,
        trigger_words=reading.trigger_words(metadata), hashes=hashes, sha256=sha256, problems=problems,
        metadata=metadata, norms=dict(_norms(path)) if norms and not problems else None,
    )  # fmt: skip


def _counted(
    stem: str,
    group: Mapping[str, str],
    file: Any,
    content: Mapping[str, tuple[str, list[int]]],
    part: PartReport,
) -> Iterator[str]:
    """Count one module, and yield what is wrong with it."""
    method = next((name for tensor, name in METHODS.items() if tensor in group), None)
    if {"dora_scale", "magnitude_vector"} & group.keys():
        method = "DoRA"
    rank = next((size for name in INNER if name in group for size in content[group[name]][1][:1]), None)
    part.modules += 1
    _count(part.methods, method or "unknown")
    if rank is not None:
        _count(part.ranks, rank)
    if method is None or (("down" in group) != ("up" in group)):
        yield f"{stem!r} is not whole"
    if "alpha" in group:
        for value in file.get_tensor(group["alpha"]).flatten().tolist():
            _count(part.alphas, float(value))
    elif stem.startswith("lora_"):
        yield f"{stem!r} has no alpha: some programs take 1, others the rank"
    for key in group.values():
        tensor: Tensor = file.get_tensor(key)
        if not bool(torch.isfinite(tensor).all()):
            yield f"{key!r} holds values that are not finite"


def _count(numbers: dict[Any, int], value: Any) -> None:
    numbers[value] = numbers.get(value, 0) + 1


def _part(stem: str) -> str:
    return next((prefix for prefix in ENCODERS if stem.startswith(prefix)), DENOISER)


def _hashes(path: Path, metadata: Mapping[str, str]) -> tuple[dict[str, str], str, list[str]]:
    """Compare the hashes that a file states with its tensors; return that, the file's sha256, and what is wrong."""
    whole, region = hashlib.sha256(), hashlib.sha256()
    with path.open("rb") as file:
        start = file.read(8)
        header = file.read(int.from_bytes(start, "little"))
        whole.update(start + header)
        while block := file.read(CHUNK):
            whole.update(block)
            region.update(block)
    digest = region.hexdigest()
    states = {
        name: "missing" if name not in metadata
        else "matches" if metadata[name].lower().removeprefix("0x") == digest else "differs"
        for name in ("sshs_model_hash", "modelspec.hash_sha256")
    }  # fmt: skip
    differing = [f"{name} is not that of the tensors" for name, state in states.items() if state == "differs"]
    return states, whole.hexdigest(), differing


def _refusal(path: Path) -> Iterator[str]:
    """Yield why the commands that work on files would not read this one, whose parts are all there."""
    try:
        reading.read(path)
    except DataError as error:
        yield error.message


def _norms(path: Path) -> Iterator[tuple[str, float]]:
    from training.engine.lora_files.svd import norm_of

    for stem, change in reading.read(path).changes.items():
        yield stem, norm_of(change)
