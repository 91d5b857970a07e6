"""Models of one family that differ in more than their weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from training.engine import rng
from training.engine.data.encoding import text_namespace
from training.engine.data.identity import ModelIdentity
from training.engine.families.ltx import CONDITION, LTX, PLAIN
from training.engine.families.pixart import ALPHA, SIGMA, PixArt

from .conftest import CPU
from .known_families import KNOWN, Known
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


def of_condition() -> Known:
    """Return how the condition pipeline is called, which takes no noise but draws the same."""
    times = [1000.0, 2000.0 / 3, 1000.0 / 3]
    call = {**KNOWN["ltx"].call, "timesteps": times, "generator": rng.generator(7, "sample")}
    return dataclasses.replace(KNOWN["ltx"], pipeline=CONDITION, call=call)


def test_ltx_with_a_decoder_that_removes_noise_draws_as_its_own_pipeline() -> None:
    family = LTX()
    ours, theirs = drawn_by_both(family, family.tiny(CONDITION, told_the_noise=True), of_condition())
    assert float(ours.std()) > 1e-3
    assert torch.allclose(ours, theirs, atol=2e-5)


@pytest.mark.parametrize(("family", "variants"), [(PixArt(), (ALPHA, SIGMA)), (LTX(), (PLAIN, CONDITION))])
def test_texts_of_two_pipelines_with_one_encoder_are_kept_apart(
    family: PixArt | LTX, variants: Sequence[str], tmp_path: Path
) -> None:
    folders = set()
    for variant in variants:
        family.save(family.tiny(variant), tmp_path / variant)
        parts = family.load(tmp_path / variant, device=CPU, dtype=torch.float32)
        identity = ModelIdentity(tmp_path / "identity.json")
        folders.add(text_namespace(family, parts, tmp_path, identity))
    assert len(folders) == 2
