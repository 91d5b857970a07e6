"""Every sampler draws the latents of a perfect model, for models of noise, of v and of flow."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from training.engine.errors import ConfigurationError
from training.engine.families.base import ModelFamily, Parts, TextRow
from training.engine.families.flux import Flux
from training.engine.families.sd import StableDiffusion
from training.engine.registry import load_sampler, sampler_names
from training.engine.sample import Artist

from .conformance import EDGE

X0 = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(2))


def knows(process: object, noised: Tensor, t: Tensor) -> Tensor:
    """Predict as a model would that has seen one picture only."""
    if process.objective == "flow":  # type: ignore[attr-defined]
        return (noised - X0) / t.view(-1, 1, 1, 1)
    alphas = process.alphas_cumprod  # type: ignore[attr-defined]
    whole = t.double().clamp(0, 999)
    below = alphas[whole.long()].double()
    above = alphas[(whole.long() + 1).clamp_max(999)].double()
    alpha = (below + (above - below) * (whole - whole.floor())).view(-1, 1, 1, 1).float()
    return (noised - alpha.sqrt() * X0) / (1 - alpha).sqrt()


class FlowThatKnows(Flux):
    def forward(self, parts: Parts, noised: Tensor, t: Tensor, text: TextRow) -> Tensor:
        return knows(parts.process, noised, t)

    def decode_image(self, parts: Parts, latents: Tensor) -> Tensor:
        return latents


class NoiseThatKnows(StableDiffusion):
    def forward(self, parts: Parts, noised: Tensor, t: Tensor, text: TextRow) -> Tensor:
        return knows(parts.process, noised, t)

    def decode_image(self, parts: Parts, latents: Tensor) -> Tensor:
        return latents


@pytest.mark.parametrize("name", sampler_names())
@pytest.mark.parametrize("family", [FlowThatKnows(), NoiseThatKnows()], ids=["flow", "eps"])
def test_sampler_ends_at_what_the_model_knows(family: ModelFamily, name: str) -> None:
    artist = Artist(family, family.tiny(), "fp32", load_sampler(name))
    drawn = artist.pixels([{}], {}, seeds=[3], steps=12, guidance=1.0, width=EDGE, height=EDGE)
    # DDIM ends at the first step of the schedule, which is not quite clean.
    assert float((drawn - X0).abs().max()) < 0.15
    again = artist.pixels([{}], {}, seeds=[3], steps=12, guidance=1.0, width=EDGE, height=EDGE)
    assert torch.equal(drawn, again)


def test_unknown_sampler_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_sampler("eulr")
    assert caught.value.patch == {"/sampling/sampler": "euler"}


@pytest.mark.parametrize("name", sampler_names())
def test_model_that_begins_at_pure_noise_gets_finite_pictures(name: str) -> None:
    family = StableDiffusion()
    parts = family.tiny("v_prediction")
    (row,) = family.encode_text(parts, ["a cat"])
    artist = Artist(family, parts, "fp32", load_sampler(name))
    drawn = artist.pixels([row], row, seeds=[3], steps=4, guidance=1.0, width=EDGE, height=EDGE)
    assert drawn.isfinite().all()
