"""Clips: as video models draw them, as they are read from files, and trained on."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from training.engine import rng
from training.engine.families.base import ModelFamily
from training.engine.families.ltx import CONDITION, LTX
from training.engine.families.wan import Wan

from .conformance import EDGE
from .known_families import KNOWN
from .test_conformance import drawn_by_both
from .test_family_variants import of_condition

# -- models ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "kind", "frames"),
    [
        (Wan(), "2.1", 5),
        (Wan(), "14b", 9),
        (Wan(), "5b", 5),
        (LTX(), "LTXPipeline", 9),
        (LTX(), CONDITION, 9),
    ],
)
def test_clip_is_that_of_the_diffusers_pipeline(family: Any, kind: str, frames: int) -> None:
    known = of_condition() if kind == CONDITION else KNOWN[family.name]
    ours, theirs = drawn_by_both(family, family.tiny(kind), known, frames)
    assert ours.shape[2] == frames
    assert float(ours.diff(dim=2).abs().max()) > 1e-3, "nothing moves"
    assert torch.allclose(ours, theirs, atol=2e-5)


@pytest.mark.parametrize("family", [Wan(), LTX()])
def test_encoded_clip_has_the_shape_that_noise_is_drawn_in(family: ModelFamily) -> None:
    parts = family.tiny()
    frames = 2 * family.frame_step + 1
    with torch.no_grad():
        clip = torch.rand(1, 3, frames, EDGE, EDGE, generator=rng.generator(0, "clip")) * 2 - 1
        latents = family.encode_image(parts, clip)
        assert tuple(latents.shape[1:]) == family.clip_shape(parts, EDGE, EDGE, frames)
        assert family.decode_image(parts, latents).shape == clip.shape
        still = family.encode_image(parts, clip[:, :, 0])
        assert tuple(still.shape[1:]) == family.latent_shape(parts, EDGE, EDGE)
        # Both autoencoders are causal: the first latent frame is that of the first frame alone.
        assert torch.allclose(still, latents[:, :, :1], atol=1e-5)
