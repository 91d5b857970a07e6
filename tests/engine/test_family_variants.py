"""Models of one family that differ in more than their weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from training.engine.families.pixart import SIGMA, PixArt

from .conftest import CPU
from .known_families import KNOWN
from .test_conformance import drawn_by_both


def test_pixart_sigma_is_not_told_the_size_and_reads_longer_prompts(tmp_path: Path) -> None:
    family = PixArt()
    family.save(family.tiny(SIGMA), tmp_path)
    parts = family.load(tmp_path, device=CPU, dtype=torch.float32)
    ours, theirs = drawn_by_both(family, parts, dataclasses.replace(KNOWN["pixart"], pipeline=SIGMA))
    assert torch.allclose(ours, theirs, atol=2e-5)
    lengths = [
        family.encode_text(each, ["x " * 200])[0]["hidden"].shape[0] for each in (family.tiny(), parts)
    ]
    assert lengths == [120, 300]
    assert family.metadata(parts)["modelspec.architecture"] == "pixart-sigma/lora"
