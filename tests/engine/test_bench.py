"""The benchmark of the trainer compares loops that do the same work."""

from __future__ import annotations

import ast
import dataclasses
from pathlib import Path

import pytest
import torch

from bench.conformance import ROOT, SUITE, sentence
from bench.engine import summary
from bench.engine_models import MODELS
from bench.engine_runs import Loops, compare, first_step, recipe

from .conftest import assert_equal
from .test_planted_faults import FAULTS

MODEL = dataclasses.replace(MODELS["demo"], batch=2, resolution=32, steps=1)


@pytest.fixture
def loops(bases: dict[str, Path], pictures: Path, tmp_path: Path) -> Loops:
    model = dataclasses.replace(MODEL, recipe={"base_model": {"path": str(bases["sd"])}, "method": {}})
    spec = recipe(model, pictures, 1, tmp_path / "cache")
    return Loops(model, spec, tmp_path / "run", None)


def gradients(loops: Loops, run: str) -> list[torch.Tensor]:
    loops.trainer.state.step = 0
    for parameter in loops.trainer.optimizer.parameters:
        parameter.grad = None
    loops.run(run)
    return [p.grad.clone() for p in loops.trainer.optimizer.parameters if p.grad is not None]


def test_without_caches_the_same_gradients_come_out(loops: Loops) -> None:
    adapter = {name: value.clone() for name, value in loops.trainer.adapter.state_dict().items()}
    cached = gradients(loops, "ours")
    loops.trainer.adapter.load_state_dict(adapter)
    live = gradients(loops, "uncached")
    assert len(cached) == len(live) > 0
    for one, other in zip(cached, live, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)
    assert max(float(each.abs().max()) for each in cached) > 1e-3


def test_bare_loop_moves_the_adapter_and_every_way_is_timed_in_every_block(loops: Loops) -> None:
    before = {name: value.clone() for name, value in loops.trainer.adapter.state_dict().items()}
    taken = compare(loops, 3)
    assert {name: len(rows) for name, rows in taken.items()} == {"bare": 3, "ours": 3, "uncached": 3}
    with pytest.raises(AssertionError):
        assert_equal(loops.trainer.adapter.state_dict(), before)


def test_first_step_of_a_recipe_is_made_and_gone_on_from(loops: Loops, tmp_path: Path) -> None:
    loops.run("ours")
    loops.trainer.save(loops.trainer.state.step)
    loops.trainer.detach()
    spec, base = loops.trainer.spec, loops.trainer.parts
    assert first_step(MODEL, spec, tmp_path / "other", base) > 0
    assert first_step(MODEL, spec, tmp_path / "run", base, resume=True) > 0


def test_ratios_are_of_the_same_block() -> None:
    taken = {
        "bare": [(1.0, 2.0), (10.0, 20.0), (1.0, 2.0)],
        "ours": [(1.1, 2.0), (11.0, 20.0), (1.1, 2.0)],
    }
    found = summary(taken, steps=10)
    assert found["cpu"]["ours_ratio"] == [1.1, 1.1, 1.1]
    assert found["wall"] == {"bare_ms": 200.0, "ours_ms": 200.0, "ours_ratio": [1.0, 1.0, 1.0]}
    assert found["steps_per_second"] == {"bare": 5.0, "ours": 5.0}


def test_documentation_lists_every_check_and_every_planted_fault() -> None:
    page = (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")
    named = {fault.__name__ for fault in FAULTS}
    for name in SUITE:
        tree = ast.parse((ROOT / "tests" / "engine" / name).read_text(encoding="utf-8"))
        named |= {
            each.name for each in tree.body if isinstance(each, ast.FunctionDef) and each.name[:5] == "test_"
        }
    named.remove("test_planted_fault_is_caught")
    rows = {line.split("|")[1].strip() for line in page.splitlines() if line.startswith("| ")}
    assert rows - {"check", "planted fault, caught"} == {sentence(name) for name in named}
