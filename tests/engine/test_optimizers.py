"""Every optimizer makes the steps of its paper, leaves bad ones out, and resumes to the bit."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from prodigyopt import Prodigy
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers.optimization import Adafactor

from training.engine.errors import ConfigurationError
from training.engine.extras import is_installed
from training.engine.methods.base import ParameterGroup
from training.engine.optimizers.base import UpdateRule
from training.engine.registry import load_optimizer, optimizer_names
from training.engine.spec import TrainingSpec

from .conftest import assert_equal

SHAPES = ((4, 8), (8, 4), (4, 8), (6, 3, 3, 3), (5,))
# Large enough for bitsandbytes to use eight bits.
LARGE = ((64, 80), (8, 4))
DECAY = 0.1
RATES = (0.02, 0.01, 0.01, 0.005, 0.02)

needs_bitsandbytes = pytest.mark.skipif(not is_installed("bitsandbytes"), reason="the extra gpu is missing")
EVERY = [
    pytest.param(name, marks=needs_bitsandbytes) if name == "adamw-8bit" else name
    for name in ("adafactor", "adamw", "adamw-8bit", "came", "lion", "prodigy", "schedule-free")
]


def parameters(seed: int = 0) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in (*SHAPES, *LARGE)]


def group(own: Sequence[nn.Parameter], name: str = "denoiser") -> ParameterGroup:
    return ParameterGroup(name, [(f"{name}.layer{i}.weight", p) for i, p in enumerate(own)], 1.0)


def rule(name: str, own: Sequence[nn.Parameter]) -> UpdateRule:
    return load_optimizer(name)([group(own)], TrainingSpec(weight_decay=DECAY))


def set_gradients(own: Sequence[nn.Parameter], step: int) -> None:
    generator = torch.Generator().manual_seed(100 + step)
    for p in own:
        p.grad = torch.randn(p.shape, generator=generator) * 0.3


def run(optimizer: UpdateRule, own: Sequence[nn.Parameter], steps: range) -> None:
    for step in steps:
        set_gradients(own, step)
        optimizer.step([RATES[step]], torch.tensor(True))


def values(own: Sequence[nn.Parameter]) -> dict[str, Tensor]:
    return {str(i): p.detach().clone() for i, p in enumerate(own)}


def assert_close(own: Sequence[nn.Parameter], expected: Sequence[Tensor], rtol: float = 1e-5) -> None:
    for mine, theirs in zip(own, expected, strict=True):
        torch.testing.assert_close(mine.detach(), theirs, rtol=rtol, atol=1e-6)


# -- the mathematics -------------------------------------------------------------------------------------------------


def test_every_optimizer_is_found_by_name() -> None:
    assert optimizer_names() == [
        "adafactor",
        "adamw",
        "adamw-8bit",
        "came",
        "lion",
        "prodigy",
        "schedule-free",
    ]
    with pytest.raises(ConfigurationError) as caught:
        load_optimizer("adamv")
    assert (caught.value.code, caught.value.patch) == ("unknown_optimizer", {"/training/optimizer": "adamw"})


@pytest.mark.parametrize(
    ("name", "peer"),
    [
        ("adamw", lambda own: torch.optim.AdamW(own, lr=1.0, weight_decay=DECAY, foreach=False)),
        ("adafactor", lambda own: Adafactor(
            own, lr=1.0, scale_parameter=False, relative_step=False, weight_decay=DECAY, eps=(1e-30, 1e-3)
        )),
    ],
)  # fmt: skip
def test_steps_are_those_of_the_library(name: str, peer: Callable[[Any], torch.optim.Optimizer]) -> None:
    # transformers factors a convolution by its last two sides; here it is a matrix of output channels.
    mine, theirs = parameters()[:3], parameters()[:3]
    optimizer, other = rule(name, mine), peer(theirs)
    for step, rate in enumerate(RATES):
        set_gradients(theirs, step)
        other.param_groups[0]["lr"] = rate
        other.step()
    run(optimizer, mine, range(5))
    assert_close(mine, [p.detach() for p in theirs])


def test_prodigy_makes_the_steps_of_its_authors() -> None:
    # In double precision: the estimate rests on the small difference of two weights.
    mine, theirs = ([nn.Parameter(p.detach().double()) for p in parameters()] for _ in range(2))
    other = Prodigy(
        theirs, lr=1.0, betas=(0.9, 0.99), weight_decay=DECAY, use_bias_correction=True, safeguard_warmup=True
    )
    optimizer = rule("prodigy", mine)
    for _ in range(30):
        for own in (mine, theirs):
            for p in own:
                p.grad = p.detach() - 3.0  # downhill to 3, so that the estimate grows
        other.step()
        optimizer.step([1.0], torch.tensor(True))
    found = float(optimizer.effective_rate(1.0))
    assert found == pytest.approx(other.param_groups[0]["d"], rel=1e-9)
    assert found > 100 * 1e-6, "the estimate never grew"
    assert_close(mine, [p.detach() for p in theirs])


def test_prodigy_without_any_gradient_moves_nothing_it_should_not() -> None:
    own = parameters()
    optimizer = load_optimizer("prodigy")([group(own)], TrainingSpec(weight_decay=0.0))
    before = values(own)
    for p in own:
        p.grad = torch.zeros_like(p)
    optimizer.step([1.0], torch.tensor(True))
    assert_equal(before, values(own))
    assert float(optimizer.effective_rate(0.5)) == 0.5e-6


def test_each_group_has_an_estimate_of_its_own() -> None:
    one, two = parameters(1)[:2], parameters(2)[:2]
    both = load_optimizer("prodigy")([group(one), group(two, "text_encoder")], TrainingSpec())
    alone = load_optimizer("prodigy")([group(parameters(1)[:2])], TrainingSpec())
    for step in range(4):
        set_gradients(one, step)
        for p in two:
            p.grad = p.detach() * 100.0
        both.step([1.0, 0.5], torch.tensor(True))
        set_gradients([p for _, p in alone.named], step)
        alone.step([1.0], torch.tensor(True))
    assert_close(one, [p.detach() for _, p in alone.named])
    assert float(both.effective_rate(1.0)) == float(alone.effective_rate(1.0))


def test_lion_steps_by_the_sign_of_what_is_momentum_and_gradient() -> None:
    p = nn.Parameter(torch.tensor([1.0, -2.0, 0.5]))
    optimizer = load_optimizer("lion")([group([p])], TrainingSpec(weight_decay=0.1))
    p.grad = torch.tensor([0.3, -0.2, 0.0])
    optimizer.step([0.01], torch.tensor(True))
    # w - 0.01 (sign(g) + 0.1 w); the momentum is then 0.01 g.
    assert p.tolist() == pytest.approx([1 - 0.011, -2 + 0.012, 0.5 - 0.0005])
    p.grad = torch.tensor([-0.02, -0.2, 0.1])
    optimizer.step([0.01], torch.tensor(True))
    # 0.9 * 0.003 - 0.1 * 0.02 is still positive: the momentum wins.
    assert p.tolist() == pytest.approx(
        [0.989 - 0.01 * 1.0989, -1.988 + 0.01 * 1.1988, 0.4995 - 0.01 * 1.04995]
    )
    assert optimizer.state_dict()["denoiser.layer0.weight/momentum"].tolist() == pytest.approx(
        [0.99 * 0.003 - 0.01 * 0.02, 0.99 * -0.002 - 0.01 * 0.2, 0.001]
    )


def came_by_the_paper(weight: Tensor, gradients: Sequence[Tensor]) -> Tensor:
    """Follow algorithm 2 of the paper for one matrix, with its outer products written out."""
    weight = weight.double()
    row, column = torch.zeros(weight.shape[0]).double(), torch.zeros(weight.shape[1]).double()
    doubt_row, doubt_column, momentum = row.clone(), column.clone(), torch.zeros_like(weight)
    for gradient, rate in zip(gradients, RATES, strict=True):
        square = gradient.double() ** 2 + 1e-30
        row = 0.999 * row + 0.001 * square.sum(1)
        column = 0.999 * column + 0.001 * square.sum(0)
        v = torch.outer(row, column) / row.sum()
        update = gradient.double() / v.sqrt()
        update = update / max(1.0, float(update.square().mean().sqrt()))
        momentum = 0.9 * momentum + 0.1 * update
        doubt = (update - momentum) ** 2 + 1e-16
        doubt_row = 0.9999 * doubt_row + 0.0001 * doubt.sum(1)
        doubt_column = 0.9999 * doubt_column + 0.0001 * doubt.sum(0)
        s = torch.outer(doubt_row, doubt_column) / doubt_row.sum()
        weight = weight - rate * (momentum / s.sqrt() + DECAY * weight)
    return weight


def test_came_follows_the_paper() -> None:
    own = parameters()
    start, gradients = values(own), []
    optimizer = rule("came", own)
    for step, rate in enumerate(RATES):
        set_gradients(own, step)
        gradients.append([p.grad.clone() for p in own])  # type: ignore[union-attr]
        optimizer.step([rate], torch.tensor(True))
    for index in (0, 1, 3):
        wanted = came_by_the_paper(
            start[str(index)].flatten(1), [each[index].flatten(1) for each in gradients]
        )
        torch.testing.assert_close(own[index].detach().flatten(1).double(), wanted, rtol=1e-4, atol=1e-5)


def test_schedule_free_weights_are_the_mean_of_its_steps() -> None:
    own = parameters()[:2]
    z = [p.detach().double() for p in own]
    x, y, square = list(z), list(z), [torch.zeros_like(p) for p in z]
    optimizer = load_optimizer("schedule-free")([group(own)], TrainingSpec(weight_decay=DECAY))
    total = highest = 0.0
    for step, rate in enumerate(RATES):
        set_gradients(own, step)
        optimizer.step([rate], torch.tensor(True))
        highest = max(highest, rate)
        total += highest**2
        share = highest**2 / total
        for i, p in enumerate(own):
            assert p.grad is not None
            gradient = p.grad.double()
            square[i] = 0.999 * square[i] + 0.001 * gradient**2
            scaled = gradient / ((square[i] / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8) + DECAY * y[i]
            z[i] = z[i] - rate * scaled
            x[i] = (1 - share) * x[i] + share * z[i]
            y[i] = 0.1 * z[i] + 0.9 * x[i]
    assert_close(own, [each.float() for each in y])
    averages = optimizer.averages()
    assert averages is not None
    assert_close([nn.Parameter(average) for average in averages.values()], [each.float() for each in x])


# -- what holds for all ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY)
def test_step_that_is_not_finite_changes_no_weight_and_no_moment(name: str) -> None:
    own = parameters()
    optimizer = rule(name, own)
    for bad in (0, 2):  # before there are moments, and after
        before, moments = values(own), optimizer.state_dict()
        for p in own:
            p.grad = torch.full_like(p, math.nan)
        optimizer.step([RATES[bad]], torch.tensor(False))
        assert_equal(before, values(own))
        if moments:
            assert_equal(moments, optimizer.state_dict())
        run(optimizer, own, range(bad, bad + 2))
        assert all(not torch.equal(before[str(i)], p) for i, p in enumerate(own))
    assert all(torch.isfinite(tensor).all() for tensor in optimizer.state_dict().values())


@pytest.mark.parametrize("name", EVERY)
def test_left_out_first_step_leaves_the_later_ones_as_they_would_be(name: str) -> None:
    own, other = parameters(), parameters()
    late, plain = rule(name, own), rule(name, other)
    for p in own:
        p.grad = torch.full_like(p, math.inf)
    late.step([RATES[0]], torch.tensor(False))
    run(late, own, range(3))
    run(plain, other, range(3))
    assert_equal(values(own), values(other))


@pytest.mark.parametrize("name", EVERY)
def test_state_in_a_file_brings_the_same_steps(name: str, tmp_path: Path) -> None:
    own = parameters()
    optimizer = rule(name, own)
    run(optimizer, own, range(3))
    save_file(optimizer.state_dict(), tmp_path / "state.safetensors")
    copies = [nn.Parameter(p.detach().clone()) for p in own]
    again = rule(name, copies)
    again.load_state_dict(load_file(tmp_path / "state.safetensors"))
    run(optimizer, own, range(3, 5))
    run(again, copies, range(3, 5))
    assert_equal(values(own), values(copies))
    assert_equal(optimizer.state_dict(), again.state_dict())


@pytest.mark.parametrize("name", EVERY)
def test_empty_state_is_the_state_before_the_first_step(name: str) -> None:
    own = parameters()
    optimizer = rule(name, own)
    assert optimizer.state_dict() == {}
    run(optimizer, own, range(2))
    with torch.no_grad():
        for p, fresh in zip(own, parameters(), strict=True):
            p.copy_(fresh)
    optimizer.load_state_dict({})
    assert optimizer.state_dict() == {}
    run(optimizer, own, range(3))
    other = parameters()
    run(rule(name, other), other, range(3))
    assert_equal(values(own), values(other))


@pytest.mark.parametrize("name", EVERY)
def test_parameter_without_a_gradient_is_no_error(name: str) -> None:
    own = parameters()
    optimizer = rule(name, own)
    set_gradients(own, 0)
    own[1].grad = None
    optimizer.step([0.01], torch.tensor(True))
    assert all(torch.isfinite(p).all() for p in own)
