"""The run specification: strict, complete, and the same in every form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.engine.cadence import is_due, times_left
from training.engine.schedule import SCHEDULES, learning_rate_factor
from training.engine.spec import FIELDS, RunSpec, SpecError, StepPlan, read_yaml, validate

MINIMAL: dict[str, Any] = {"name": "x", "base_model": {"path": "base"}, "dataset": {"folder": "set"}}


def with_(**sections: Any) -> dict[str, Any]:
    return {**MINIMAL, **sections}


def test_everything_but_name_base_and_pictures_has_a_default() -> None:
    spec = RunSpec.from_dict(MINIMAL)
    assert (spec.method.rank, spec.method.true_alpha, spec.training.learning_rate) == (16, 16.0, 1e-4)
    assert {p for p, info in FIELDS.items() if info.required} == {"/name", "/base_model/path"}


@pytest.mark.parametrize(
    ("data", "pointer", "code", "words"),
    [
        (with_(trainng={}), "/trainng", "unknown_key", "did you mean 'training'?"),
        (
            with_(training={"batchsize": 2}),
            "/training/batchsize",
            "unknown_key",
            "did you mean 'batch_size'?",
        ),
        (with_(training={"batch_size": 0}), "/training/batch_size", "out_of_range", "between 1 and 1024"),
        (with_(training={"batch_size": 1.5}), "/training/batch_size", "wrong_type", "whole number"),
        (with_(training={"batch_size": True}), "/training/batch_size", "wrong_type", "true or false"),
        (with_(training={"learning_rate": "fast"}), "/training/learning_rate", "wrong_type", "'fast'"),
        (with_(training={"learning_rate": float("nan")}), "/training/learning_rate", "wrong_type", "finite"),
        (
            with_(training={"schedule": "cosin"}),
            "/training/schedule",
            "not_a_choice",
            "did you mean 'cosine'?",
        ),
        (with_(training=[]), "/training", "wrong_type", "a section of settings"),
        (with_(training={"resolution": 100}), "/training/resolution", "conflict", "multiple of 8"),
        (with_(training={"resolutions": [256, 100]}), "/training/resolutions", "conflict", "multiple of 8"),
        (with_(training={"resolutions": [1024]}), "/training/resolutions", "conflict", "larger than the res"),
        (
            with_(training={"resolutions": 256}),
            "/training/resolutions",
            "wrong_type",
            "list of whole numbers",
        ),
        (with_(training={"resolutions": [256.5]}), "/training/resolutions", "wrong_type", "a whole number"),
        (
            with_(training={"resolutions": [8]}),
            "/training/resolutions",
            "out_of_range",
            "between 32 and 4096",
        ),
        (with_(training={"resolutions": [64] * 9}), "/training/resolutions", "too_long", "at most 8 fit"),
        (with_(buckets={"step": 60}), "/buckets/step", "conflict", "60 is not a multiple of 8"),
        (with_(buckets={"smallest_side": 513}), "/buckets/smallest_side", "conflict", "smallest resolution"),
        (with_(buckets={"largest_side": 511}), "/buckets/largest_side", "conflict", "not be smaller"),
        (with_(training={"steps": 5, "epochs": 5}), "/training/epochs", "conflict", "not both"),
        (with_(training={"steps": 5, "warmup_steps": 5}), "/training/warmup_steps", "conflict", "shorter"),
        (with_(dataset={}), "/dataset", "conflict", "either a manifest or a folder"),
        (with_(dataset={"folder": "a", "manifest": "b"}), "/dataset", "conflict", "either"),
        (with_(sampling={"prompts": "cat"}), "/sampling/prompts", "wrong_type", "list of texts"),
        (
            with_(captions={"style": "sentences", "tag_dropout": 0.1}),
            "/captions/tag_dropout",
            "conflict",
            "no tags",
        ),
        (
            with_(captions={"style": "sentences", "shuffle_tags": True}),
            "/captions/shuffle_tags",
            "conflict",
            "tags",
        ),
        (with_(regularisation={"folder": "a", "manifest": "b"}), "/regularisation", "conflict", "either"),
        (
            with_(regularisation={"template": "{trigger}"}),
            "/regularisation/template",
            "conflict",
            "trigger word",
        ),
        (
            with_(dataset={"folder": "a", "held_out_folder": "b", "held_out_manifest": "c"}),
            "/dataset",
            "conflict",
            "held-out pictures",
        ),
        (
            with_(dataset={"folder": "a", "held_out_folder": "b"}, training={"held_out_count": 1}),
            "/training/held_out",
            "conflict",
            "do not go together",
        ),
        (
            with_(training={"held_out": 0.1, "held_out_count": 1}),
            "/training/held_out_count",
            "conflict",
            "not both",
        ),
        (
            with_(training={"held_out_steady": True}),
            "/training/held_out_steady",
            "conflict",
            "needs a held-out",
        ),
        (with_(captions={"template": "photo"}), "/captions/template", "conflict", "{caption}"),
        (with_(name=""), "/name", "missing", "empty"),
        (with_(trigger="ink\x00y"), "/trigger", "bad_text", "'\\x00' cannot be stored"),
        (with_(output={"author": "a\ud800b"}), "/output/author", "bad_text", "'\\ud800' cannot be stored"),
        (with_(sampling={"prompts": ["a", "b\x00"]}), "/sampling/prompts", "bad_text", "cannot be stored"),
        (with_(trigger="a" * 1001), "/trigger", "too_long", "1001 characters are too many; at most 1000 fit"),
        (with_(sampling={"prompts": ["a"] * 17}), "/sampling/prompts", "too_long", "17 lines are too many"),
        (with_(sampling={"prompts": ["a" * 5000]}), "/sampling/prompts", "too_long", "5000 characters"),
        (with_(cache_dir="a" * 4097), "/cache_dir", "too_long", "at most 4096 fit"),
        (with_(**{"a\x00\ud800": 1}), "/a��", "unknown_key", "'a��'"),
        (with_(training={"steps": 10**400}), "/training/steps", "out_of_range", "far out of range"),
        ({k: v for k, v in MINIMAL.items() if k != "base_model"}, "/base_model/path", "missing", "required"),
    ],
)
def test_wrong_setting_is_named_with_its_place_and_cure(
    data: Any, pointer: str, code: str, words: str
) -> None:
    with pytest.raises(SpecError) as caught:
        RunSpec.from_dict(data)
    assert (caught.value.pointer, caught.value.code) == (pointer, code)
    assert words in caught.value.message
    assert caught.value.exit_code == 64
    assert caught.value.category == "user"


def test_validate_lists_every_error_at_once() -> None:
    errors = validate({"nme": "x", "training": {"steps": 0, "seed": -1}})
    assert [(e.pointer, e.code) for e in errors] == [
        ("/nme", "unknown_key"), ("/name", "missing"), ("/base_model/path", "missing"),
        ("/training/steps", "out_of_range"), ("/training/seed", "out_of_range"),
    ]  # fmt: skip
    assert validate(MINIMAL) == []


def test_flood_of_unknown_settings_is_answered_briefly() -> None:
    errors = validate(with_(**{f"unknown_{number}": 1 for number in range(100_000)}))
    assert len(errors) == 50


def test_longest_texts_and_lists_are_taken() -> None:
    data = with_(trigger="墨" * 1000, sampling={"prompts": ["a" * 1000] * 16}, cache_dir="a" * 4096)
    assert len(RunSpec.from_dict(data).sampling.prompts) == 16


def test_yaml_and_dict_forms_are_the_same_spec() -> None:
    spec = RunSpec.from_dict(with_(trigger="墨", training={"learning_rate": "1e-4", "epochs": 3},
                                   sampling={"prompts": ["a", "b"]}))  # fmt: skip
    assert RunSpec.from_yaml(spec.to_yaml()) == spec
    assert RunSpec.from_dict(spec.to_dict()) == spec
    assert RunSpec.from_yaml(spec.to_yaml()).sha256() == spec.sha256()


def test_broken_yaml_names_its_line() -> None:
    with pytest.raises(SpecError, match="line 2"):
        RunSpec.from_yaml("name: x\n  bad: [")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"name: x\n  bad: [", "not valid YAML at line 2"),
        (b"date: 2024-99-99", "not valid YAML"),
        ("name: 红色的盘子".encode("gb18030"), r"run\.yaml is not UTF-8"),
    ],
)
def test_file_that_is_no_yaml_is_a_wrong_setting(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "run.yaml").write_bytes(content)
    with pytest.raises(SpecError, match=words):
        read_yaml(tmp_path / "run.yaml")


def test_paths_of_a_file_start_at_the_file(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("name: x\nbase_model: {path: base}\ndataset: {folder: ../set}\n")
    spec = RunSpec.load(tmp_path / "run.yaml")
    assert spec.base_model.path == str(tmp_path / "base")
    assert Path(spec.dataset.folder or "").resolve() == (tmp_path.parent / "set").resolve()


def test_hash_of_the_recipe_ignores_names_and_cadences_only() -> None:
    base = RunSpec.from_dict(MINIMAL)
    same = RunSpec.from_dict(with_(name="y", threads=2, sampling={"seed": 7}, checkpoint={"keep": 9}))
    other = RunSpec.from_dict(with_(training={"seed": 1}))
    assert base.recipe_sha256() == same.recipe_sha256() != other.recipe_sha256()
    assert base.sha256() != same.sha256()


@pytest.mark.parametrize(
    ("training", "buckets", "expected"),
    [
        ({"epochs": 3, "batch_size": 4}, [10], (9, 3, 3)),
        ({"epochs": 3, "batch_size": 4}, [7, 1], (9, 3, 3)),
        ({"epochs": 3, "batch_size": 4, "gradient_accumulation": 2}, [7, 1], (6, 3, 2)),
        ({"steps": 10, "batch_size": 8}, [24], (10, 4, 3)),
        ({"batch_size": 8}, [3], (10, 10, 1)),
        ({}, [], (10, 10, 1)),
    ],
)
def test_plan_counts_steps_and_epochs(training: Any, buckets: list[int], expected: tuple[int, ...]) -> None:
    plan = RunSpec.from_dict(with_(training=training)).plan(buckets)
    assert (plan.total_steps, plan.epochs, plan.steps_per_epoch) == expected


def test_smaller_resolutions_are_trained_beside_the_resolution() -> None:
    training = RunSpec.from_dict(with_(training={"resolution": 1024, "resolutions": [512, "768"]})).training
    assert training.sizes == (1024, 768, 512)
    assert training.mean_pixels == (1024**2 + 768**2 + 512**2) / 3
    again = with_(
        training={"resolution": 1024, "resolutions": [512, 768, 1024]}, dataset={"folder": "a", "repeats": 5}
    )
    assert RunSpec.from_dict(again).training.sizes == training.sizes
    assert RunSpec.from_dict(again).samples(10) == 150
    assert RunSpec.from_yaml(RunSpec.from_dict(again).to_yaml()) == RunSpec.from_dict(again)
    assert RunSpec.from_dict(MINIMAL).training.sizes == (512,)


def test_every_setting_has_a_name_and_says_what_it_is_for() -> None:
    for pointer, info in FIELDS.items():
        assert info.label, pointer
        assert info.help, pointer


@pytest.mark.parametrize(
    ("schedule", "values"),
    [("constant", [1 / 3, 2 / 3, 1, 1, 1, 1]), ("linear", [1 / 3, 2 / 3, 1, 0.75, 0.5, 0.25]),
     ("cosine", [1 / 3, 2 / 3, 1, 0.853553, 0.5, 0.146447]),
     ("cosine-restarts", [1 / 3, 2 / 3, 1, 0.5, 1, 0.5]),
     ("polynomial", [1 / 3, 2 / 3, 1, 0.75**3, 0.125, 0.015625]),
     ("one-cycle", [0.04, 0.52, 1, 0.853553, 0.5, 0.146447])],
)  # fmt: skip
def test_learning_rate_follows_its_closed_form(schedule: str, values: list[float]) -> None:
    got = [
        learning_rate_factor(s, total_steps=6, warmup_steps=2, schedule=schedule, restarts=1, power=3.0)
        for s in range(6)
    ]
    assert got == pytest.approx(values, abs=1e-6)


def test_one_cycle_without_a_warm_up_rises_over_three_tenths() -> None:
    got = [learning_rate_factor(s, total_steps=10, warmup_steps=0, schedule="one-cycle") for s in range(10)]
    assert got[:4] == pytest.approx([0.04, 0.28, 0.76, 1.0])
    assert got[3:] == sorted(got[3:], reverse=True)
    assert got[-1] == pytest.approx(0.0495156)


@given(
    schedule=st.sampled_from(SCHEDULES), total=st.integers(1, 400), warmup=st.integers(0, 100),
    restarts=st.integers(1, 20), power=st.floats(0.1, 10.0),
)  # fmt: skip
def test_learning_rate_is_never_above_the_full_one_and_never_nothing(
    schedule: str, total: int, warmup: int, restarts: int, power: float
) -> None:
    factors = [
        learning_rate_factor(
            step, total_steps=total, warmup_steps=min(warmup, total - 1), schedule=schedule,
            restarts=restarts, power=power,
        )
        for step in range(total)
    ]  # fmt: skip
    assert all(0.0 < factor <= 1.0 for factor in factors)


@pytest.mark.parametrize("restarts", [1, 2, 3, 6])
def test_restart_is_at_the_full_rate_however_the_steps_divide(restarts: int) -> None:
    factors = [
        learning_rate_factor(
            s, total_steps=7 * 6, warmup_steps=0, schedule="cosine-restarts", restarts=restarts
        )
        for s in range(42)
    ]
    starts = [s for s in range(42) if s == 0 or factors[s] > factors[s - 1]]
    assert len(starts) == restarts + 1
    assert all(factors[s] > 0.9 for s in starts)


@given(
    total=st.integers(1, 200), per_epoch=st.integers(1, 20), step=st.integers(0, 200),
    every_steps=st.none() | st.integers(1, 50), every_epochs=st.none() | st.integers(1, 5),
)  # fmt: skip
def test_drawings_left_are_those_that_will_be_due(
    total: int, per_epoch: int, step: int, every_steps: int | None, every_epochs: int | None
) -> None:
    plan = StepPlan(total, -(-total // per_epoch), per_epoch)
    due = sum(is_due(s, plan, every_steps, every_epochs) for s in range(step + 1, total + 1))
    assert times_left(step, plan, every_steps, every_epochs) == due
    assert is_due(total, plan, every_steps, every_epochs)
