"""Noise, targets and weights against their closed forms."""

from __future__ import annotations

import pytest
import torch

from training.engine import rng
from training.engine.diffusion import DiscreteProcess
from training.engine.families.sd import StableDiffusion
from training.engine.loss import time_weight
from training.engine.spec import TrainingSpec

ALPHAS = torch.tensor([0.99, 0.5, 0.1, 0.0])


def test_v_target_at_the_ends_of_the_schedule() -> None:
    process = DiscreteProcess(torch.tensor([1.0, 0.0]), "v")
    x0, noise = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
    target = process.target(x0, noise, torch.tensor([0, 1]))
    assert torch.equal(target[0], noise[0])
    assert torch.equal(target[1], -x0[1])


@pytest.mark.parametrize(
    ("objective", "expected"),
    [("eps", [5 / 99, 1.0, 1.0, 1.0]), ("v", [5 / 100, 1 / 2, (1 / 9) / (10 / 9), 0.0])],
)
def test_min_snr_weights_are_finite_also_at_zero_snr(objective: str, expected: list[float]) -> None:
    process = DiscreteProcess(ALPHAS, objective)  # type: ignore[arg-type]
    weight = time_weight(process, torch.arange(4), TrainingSpec(min_snr_gamma=5.0))
    assert weight is not None
    assert weight.tolist() == pytest.approx(expected, rel=1e-4)


def test_timesteps_cover_the_whole_schedule_evenly() -> None:
    process = StableDiffusion().tiny().process
    t = process.timesteps(torch.linspace(0, 1 - 1e-9, 100_000, dtype=torch.float64))
    assert torch.bincount(t, minlength=1000).tolist() == [100] * 1000


def test_zero_terminal_snr_is_read_from_the_scheduler() -> None:
    assert float(StableDiffusion().tiny("v_prediction").process.alphas_cumprod[-1]) == 0.0
    assert float(StableDiffusion().tiny().process.alphas_cumprod[-1]) > 0.0


def test_numbers_follow_from_their_key_alone() -> None:
    torch.manual_seed(1)
    one = torch.randn(3, generator=rng.generator(7, "noise", 3, 2))
    torch.manual_seed(2)
    assert torch.equal(one, torch.randn(3, generator=rng.generator(7, "noise", 3, 2)))
    keys = {
        rng.key(s, p, a, b) for s in range(3) for p in ("noise", "flip") for a in range(3) for b in range(3)
    }
    assert len(keys) == 54
    assert all(0 <= rng.uniform(s, "u", s) < 1 for s in range(1000))
    assert sorted(rng.permutation(50, 1, "order", 2)) == list(range(50))


def test_noise_of_a_sample_is_that_of_the_past() -> None:
    """Pin the numbers: a release that changes them breaks every resume."""
    assert rng.key(0, "noise", 1, 2) == 4951646916240277409
    assert rng.permutation(6, 0, "order/32x32", 0) == [4, 5, 2, 3, 0, 1]
