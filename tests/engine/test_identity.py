"""A checkpoint belongs to its recipe: every setting that decides numbers, and no other, keeps it from being resumed."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from training.engine.checkpoint import Identity
from training.engine.errors import ConfigurationError
from training.engine.fields import FieldInfo
from training.engine.spec import FIELDS, RunSpec

from .conftest import Build, assert_equal, weights

# What is called, shown, kept and written how, and how much memory a step may take; files are compared by content.
FREE = {
    "/name", "/run_dir", "/cache_dir", "/threads", "/base_model/path", "/base_model/config", "/base_model/distilled",
    "/base_model/training_adapter", "/dataset/manifest", "/dataset/folder", "/dataset/held_out_manifest",
    "/dataset/held_out_folder", "/regularisation/manifest", "/regularisation/folder",
    "/training/gradient_checkpointing", "/training/offload",
    *(pointer for pointer in FIELDS if pointer.split("/")[1] in ("sampling", "checkpoint", "output")),
}  # fmt: skip
# Settings that only go together with others.
WITH: dict[str, dict[str, Any]] = {
    "/dataset/manifest": {"/dataset/folder": None, "/dataset/manifest": "m"},
    "/prior/count": {"/prior/prompt": "a dog"},
    "/prior/teacher": {"/prior/prompt": "a dog"},
    "/method/factor": {"/method/type": "lokr"},
    "/training/held_out_steady": {"/training/held_out": 0.2},
}
OTHERS: dict[str, Any] = {
    "/captions/template": "{caption} {trigger}", "/regularisation/template": "a dog", "/method/rules": ["mid: rank=2"],
    "/training/optimizer": "lion", "/method/type": "dora", "/training/resolution": 256, "/training/resolutions": [64],
    "/buckets/largest_side": 1024, "/training/timestep_max": 0.5, "/training/timestep_min": 0.5, "/buckets/step": 16,
}  # fmt: skip


def another(info: FieldInfo, value: Any) -> Any:
    """Return a valid value that is not ``value``."""
    if info.pointer in OTHERS:
        return OTHERS[info.pointer]
    if info.kind == "bool":
        return not value
    if info.kind == "choice":
        return next(choice for choice in info.choices if choice != value)
    if info.kind == "list":
        return ["other"]
    if info.kind in ("int", "float"):
        assert info.minimum is not None
        assert info.maximum is not None
        low = info.minimum if value != info.minimum else min(info.maximum, info.minimum + 1)
        return low if info.kind == "float" else int(low)
    return "other"


def spec_of(**values: Any) -> RunSpec:
    data: dict[str, Any] = {
        "/name": "x",
        "/base_model/path": "b",
        "/dataset/folder": "d",
        "/trigger": "inky",
        **values,
    }
    nested: dict[str, Any] = {}
    for pointer, value in data.items():
        section, _, name = pointer.strip("/").rpartition("/")
        (nested.setdefault(section, {}) if section else nested)[name] = value
    return RunSpec.from_dict(nested)


def identity(spec: RunSpec) -> Identity:
    return Identity(spec.recipe(), "set", "base", 100, "fp32", "")


@pytest.mark.parametrize("pointer", FIELDS)
def test_changed_setting_is_named_if_it_decides_numbers(pointer: str) -> None:
    info, beside = FIELDS[pointer], WITH.get(pointer, {})
    before = spec_of(**beside)
    node: Any = before
    for part in pointer.strip("/").split("/"):
        node = getattr(node, part)
    after = spec_of(**{**beside, pointer: another(info, node)})
    assert after != before
    saved = json.loads(json.dumps(dataclasses.asdict(identity(before))))
    differences = identity(after).differences(saved)
    if pointer in FREE:
        assert differences == []
    else:
        assert [each.partition(" ")[0] for each in differences] == [pointer]
        assert identity(before).differences(saved) == []


def test_run_goes_on_with_another_level_of_gradient_checkpointing_and_the_same_numbers(
    build: Build, tmp_path: Path
) -> None:
    whole = build(run="whole", training={"gradient_checkpointing": "off"})
    whole.train()
    saved = tmp_path / "whole" / "checkpoints" / "step-00000003"
    again = build(run="again", training={"gradient_checkpointing": "all"}, resume_from=saved)
    assert (again.state.step, again.plan.gradient_checkpointing) == (3, "all")
    again.train()
    assert_equal(weights(whole), weights(again))
    kept = build(run="kept", training={"gradient_checkpointing": "auto"}, resume_from=saved)
    assert kept.plan.gradient_checkpointing == "off"


def test_level_that_memory_asked_for_is_kept_where_the_recipe_says_nothing_new(
    build: Build, tmp_path: Path
) -> None:
    first = build(run="first", training={"gradient_checkpointing": "off"})
    first.state.gradient_checkpointing = "all"
    first.train()
    saved = tmp_path / "first" / "checkpoints" / "step-00000003"
    again = build(run="again", training={"gradient_checkpointing": "off"}, resume_from=saved)
    assert again.plan.gradient_checkpointing == "all"


def test_run_is_not_resumed_with_another_setting_and_says_which(build: Build, tmp_path: Path) -> None:
    build(run="first").train()
    saved = tmp_path / "first" / "checkpoints" / "step-00000003"
    with pytest.raises(ConfigurationError) as caught:
        build(run="again", resume_from=saved, captions={"keep_tags": 2}, training={"noise_offset": 0.1})
    assert caught.value.code == "recipe_changed"
    assert caught.value.message == (
        "step-00000003 cannot be resumed: /captions/keep_tags was 1, is 2; /training/noise_offset was 0.0, is 0.1"
    )
