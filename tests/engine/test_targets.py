"""Which layers are adapted: sets, names, exceptions, and what is said when nothing fits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from training.engine.errors import ConfigurationError
from training.engine.methods.rules import Rule, is_end_of, is_in, near_names, read_rule
from training.engine.methods.targets import Target, find_targets
from training.engine.registry import load_family
from training.engine.spec import RunSpec, validate

from .conftest import Build, make_spec, recorded


def targets(base: str = "sd", training: dict[str, Any] | None = None, **method: Any) -> list[Target]:
    family = load_family(base)
    spec = make_spec(Path(base), Path("pictures"), method=method, training=training or {})
    return find_targets(family, family.tiny(), spec)


@pytest.mark.parametrize(
    ("name", "path", "inside", "at_end"),
    [
        ("to_k", "up_blocks.1.attn2.to_k", True, True),
        ("attn2.to_k", "up_blocks.1.attn2.to_k", True, True),
        ("up_blocks.1", "up_blocks.1.attn2.to_k", True, False),
        ("up_blocks.1", "up_blocks.11.attn2.to_k", False, False),
        ("attn", "up_blocks.1.attn2.to_k", False, False),
        ("attn*", "up_blocks.1.attn2.to_k", True, False),
        ("up_blocks.*.attn2", "up_blocks.1.attn2.to_k", True, False),
        ("up_blocks.*.to_k", "up_blocks.1.attn2.to_k", False, False),
        ("blocks.1", "up_blocks.1.attn2.to_k", False, False),
        ("to_out.0", "attn2.to_out.0", True, True),
        ("to_out", "attn2.to_out.0", True, False),
        ("t._k", "attn2.to_k", False, False),
    ],
)
def test_name_fits_whole_pieces_of_a_path(name: str, path: str, inside: bool, at_end: bool) -> None:
    assert (is_in(name, path), is_end_of(name, path)) == (inside, at_end)


def test_rule_is_read_in_any_order_and_spacing() -> None:
    assert read_rule("up_blocks.1: rank=32, alpha=16, learning_rate=5e-5") == Rule(
        "up_blocks.1", 32, 16.0, 5e-5
    )
    assert read_rule(" mid_block :alpha = 2 rank= 4") == Rule("mid_block", 4, 2.0, None)
    assert read_rule("text_encoder: learning_rate=1e-6") == Rule("text_encoder", None, None, 1e-6)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("attn2", "is not of the form"),
        (": rank=4", "is not of the form"),
        ("two words: rank=4", "is not of the form"),
        ("attn2:", "says nothing of 'attn2'"),
        ("attn2: rnak=4", "did you mean 'rank'?"),
        ("attn2: depth=4", "known: rank, alpha, learning_rate"),
        ("attn2: rank=4 rank=5", "rank is said twice"),
        ("attn2: rank", "rank must be a whole number between 1 and 512"),
        ("attn2: rank=2.5", "rank must be a whole number between 1 and 512"),
        ("attn2: rank=0", "rank must be a whole number between 1 and 512"),
        ("attn2: rank=inf", "rank must be a whole number between 1 and 512"),
        ("attn2: alpha=0", "alpha must be a number between 1e-06 and 4096"),
        ("attn2: learning_rate=nan", "learning_rate must be a number between 1e-09 and 1"),
    ],
)
def test_rule_that_cannot_be_read_is_told_at_its_place(line: str, told: str) -> None:
    data = {
        "name": "x", "base_model": {"path": "b"}, "dataset": {"folder": "p"}, "method": {"rules": ["a: rank=1", line]}
    }  # fmt: skip
    (error,) = validate(data)
    assert (error.pointer, error.code) == ("/method/rules", "conflict")
    assert told in error.message


def test_block_size_is_for_lokr_alone() -> None:
    data: dict[str, Any] = {"name": "x", "base_model": {"path": "b"}, "dataset": {"folder": "p"}}
    assert [e.pointer for e in validate({**data, "method": {"factor": 8}})] == ["/method/factor"]
    spec = RunSpec.from_dict({**data, "method": {"type": "lokr", "factor": 8}})
    assert spec.recipe()["method"]["factor"] == 8


def test_layers_by_name_take_the_place_of_the_set() -> None:
    found = targets(modules=["attn2.to_k", "attn2.to_v"])
    assert len(found) == 8
    assert {target.name.rpartition(".")[2] for target in found} == {"to_k", "to_v"}
    assert all(".attn2." in target.name for target in found)
    assert len(targets(modules=["up_blocks.*.resnets.*.conv1"])) == 4


def test_name_that_fits_nothing_is_told_with_near_ones() -> None:
    with pytest.raises(ConfigurationError) as caught:
        targets(modules=["to_k", "attn2.to_kk"])
    assert caught.value.code == "no_target_modules"
    assert caught.value.message == "no layer is called 'attn2.to_kk'"
    assert caught.value.hint is not None
    assert "attn2.to_k" in caught.value.hint
    assert near_names("to_out", ["a.attn2.to_out.0", "a.conv1"], at_end=True) == ["to_out.0"]
    with pytest.raises(ConfigurationError) as caught:
        targets(modules=["zzz"])
    assert caught.value.hint == "Take the end of a name that the base model has."


def test_part_without_a_layer_is_told_before_any_training() -> None:
    with pytest.raises(ConfigurationError, match="no layer of the text_encoder matches to_k") as caught:
        targets(modules=["to_k"], text_encoder=True)
    assert caught.value.code == "no_target_modules"
    assert len(targets(modules=["to_k", "q_proj"], text_encoder=True)) == 10


def test_exceptions_set_rank_alpha_and_learning_rate_and_the_last_one_wins() -> None:
    found = {
        target.path: (target.rank, target.alpha, target.learning_rate)
        for target in targets(
            rank=4, alpha=2.0, text_encoder=True, training={"learning_rate": 1e-3},
            rules=["up_blocks: rank=8", "attn2: rank=16, alpha=3", "text_encoder: learning_rate=5e-6",
                   "mid_block.attentions.*.transformer_blocks: learning_rate=1e-2"],
        )
    }  # fmt: skip
    block = "attentions.0.transformer_blocks.0"
    assert found[f"denoiser.down_blocks.0.{block}.attn1.to_k"] == (4, 2.0, 1e-3)
    assert found[f"denoiser.up_blocks.1.{block}.attn1.to_k"] == (8, 4.0, 1e-3)
    assert found[f"denoiser.up_blocks.1.{block}.attn2.to_k"] == (16, 3.0, 1e-3)
    assert found[f"denoiser.mid_block.{block}.attn2.to_k"] == (16, 3.0, 1e-2)
    (rate,) = {value[2] for path, value in found.items() if path.startswith("text_encoder")}
    assert rate == 5e-6


def test_exception_that_fits_no_adapted_layer_is_told_with_near_names() -> None:
    with pytest.raises(ConfigurationError) as caught:
        targets(rules=["up_block: rank=8"])
    assert caught.value.code == "unmatched_rule"
    assert caught.value.hint is not None
    assert "up_blocks" in caught.value.hint
    with pytest.raises(ConfigurationError, match="'text_encoder' fits no adapted layer"):
        targets(rules=["text_encoder: rank=8"])


def test_each_learning_rate_moves_its_own_layers(build: Build) -> None:
    trainer = build(
        "sd", method={"text_encoder": True, "rules": ["attn2: learning_rate=1e-9"]},
        training={"steps": 2, "learning_rate": 1e-2, "text_encoder_learning_rate": 1e-4},
    )  # fmt: skip
    rates = {group.name: group.learning_rate for group in trainer.adapter.groups()}
    assert rates == {"denoiser": 1e-2, "denoiser at 1e-09": 1e-9, "text_encoder": 1e-4}
    trainer.train()
    moved = {
        name: float(t.abs().max()) for name, t in trainer.adapter.state_dict().items() if "lora_B" in name
    }
    assert max(value for name, value in moved.items() if ".attn2." in name) < 1e-8
    assert min(value for name, value in moved.items() if ".attn1." in name) > 1e-4
    assert recorded(trainer).of("plan")[0].adapted_modules == 40
