"""Known failures are recognised by what libraries really say, and the change that helps is computed for the recipe."""

from __future__ import annotations

import json
from typing import Any

import pytest

from training.engine.errors import ConfigurationError
from training.engine.hints import HINTS, SetFacts, explain, explain_exit, find, warnings_for
from training.engine.hints.hint import applicable
from training.engine.spec import FIELDS, RunSpec

from .failures import FAILURES


def spec_of(**sections: Any) -> RunSpec:
    base = sections.pop("base_model", {"path": "b"})
    return RunSpec.from_dict({"name": "x", "base_model": base, "dataset": {"folder": "d"}, **sections})


@pytest.mark.parametrize(
    ("code", "error"),
    [(code, error) for code, errors in FAILURES.items() for error in errors],
    ids=lambda value: value if isinstance(value, str) else str(value)[:40],
)
def test_known_failure_is_recognised(code: str, error: BaseException) -> None:
    explained = explain(error)
    assert explained.code == code
    assert explained.hint


def test_every_hint_has_a_real_failure_and_a_code_of_its_own() -> None:
    codes = [hint.code for hint in HINTS]
    assert len(set(codes)) == len(codes) >= 60
    assert set(FAILURES) == set(codes)


@pytest.mark.parametrize(
    ("code", "exit_code", "category"),
    [
        ("out_of_memory", 71, "capacity"), ("killed", 71, "capacity"), ("disk_full", 74, "platform"),
        ("wrong_family", 64, "user"), ("image_unreadable", 65, "user"), ("no_file", 65, "platform"),
        ("cuda_lost", 70, "platform"), ("missing_module", 70, "platform"),
    ],
)  # fmt: skip
def test_failure_has_the_exit_code_of_its_kind(code: str, exit_code: int, category: str) -> None:
    explained = explain(FAILURES[code][0])
    assert (explained.exit_code, explained.category) == (exit_code, category)


def test_unknown_failure_is_internal_and_keeps_its_words() -> None:
    explained = explain(ZeroDivisionError("division by zero"))
    assert (explained.code, explained.exit_code, explained.category) == ("internal", 70, "platform")
    assert "division by zero" in explained.message
    assert find(ZeroDivisionError("division by zero")) is None


def test_our_own_errors_are_left_alone() -> None:
    error = ConfigurationError("diverged", "m", hint="h")
    assert explain(error) is error


def test_failure_is_found_behind_the_error_that_it_caused() -> None:
    error = RuntimeError("could not load the model")
    error.__cause__ = OSError(28, "No space left on device")
    assert explain(error).code == "disk_full"
    # What was merely handled before is no cause.
    other = RuntimeError("something else")
    other.__context__ = ModuleNotFoundError("No module named 'flash_attn'")
    assert explain(other).code == "internal"


def test_every_fixed_patch_is_a_valid_change_of_the_spec() -> None:
    for hint in HINTS:
        for pointer, value in (hint.patch or {}).items():
            assert pointer in FIELDS
            section, name = pointer.strip("/").split("/")
            spec_of(**{section: {name: value}})
        json.dumps(hint.patch)


OUT_OF_MEMORY = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of {} GiB."


def out_of(gib: float) -> RuntimeError:
    return RuntimeError(OUT_OF_MEMORY.format(gib))


def test_batch_that_did_not_fit_becomes_the_largest_that_does() -> None:
    spec = spec_of(training={"batch_size": 16, "resolution": 512, "gradient_checkpointing": "off"})
    assert explain(out_of(7.79), spec).patch == {"/training/batch_size": 3}
    assert explain(out_of(23.6), spec).patch == {"/training/batch_size": 15}
    assert explain(out_of(31.7), spec).patch == {
        "/training/batch_size": 8
    }  # 16 should have fitted: half of it
    assert explain(RuntimeError("CUDA out of memory."), spec).patch == {"/training/batch_size": 8}


def test_one_picture_that_did_not_fit_is_helped_by_the_next_thing_that_saves_memory() -> None:
    done: dict[str, Any] = {
        "training": {"gradient_checkpointing": "off", "resolution": 768},
        "base_model": {"path": "b"},
    }
    steps = [
        ("/training/gradient_checkpointing", "all"), ("/base_model/quantise", "auto"), ("/training/offload", "auto"),
        ("/training/resolution", 384),
    ]  # fmt: skip
    for pointer, value in steps:
        assert explain(out_of(8), spec_of(**done)).patch == {pointer: value}
        section, name = pointer.strip("/").split("/")
        done[section][name] = value
    done["training"]["resolution"] = 64
    assert explain(out_of(8), spec_of(**done)).patch is None


def test_without_a_recipe_the_smallest_is_offered() -> None:
    assert explain(out_of(8)).patch == {"/training/batch_size": 1, "/training/gradient_checkpointing": "all"}


def test_what_needs_a_library_that_is_not_there_is_switched_off() -> None:
    nf4 = spec_of(base_model={"path": "b", "quantise": "nf4"}, training={"optimizer": "adamw-8bit"})
    missing = FAILURES["bitsandbytes_missing"][0]
    assert explain(missing, nf4).patch == {"/base_model/quantise": "none", "/training/optimizer": "adamw"}
    assert explain(missing, spec_of()).patch is None
    int8 = spec_of(base_model={"path": "b", "quantise": "int8"})
    assert explain(FAILURES["torchao_missing"][0], int8).patch == {"/base_model/quantise": "none"}
    compiled = spec_of(training={"compile": "regional"})
    for code in ("compile_failed", "compiler_missing", "triton_missing"):
        assert explain(FAILURES[code][0], compiled).patch == {"/training/compile": "off"}
        assert explain(FAILURES[code][0], spec_of()).patch is None


def test_learning_rate_that_diverged_becomes_a_quarter() -> None:
    spec = spec_of(training={"learning_rate": 4e-4})
    assert explain(ValueError("loss is nan"), spec).patch == {"/training/learning_rate": 1e-4}


def test_resolution_that_cannot_be_cut_becomes_the_nearest_that_can() -> None:
    error = FAILURES["resolution_unfit"][0]
    assert explain(error, spec_of(training={"resolution": 1000})).patch == {"/training/resolution": 1024}
    assert explain(error, spec_of(training={"resolution": 1024})).patch is None


def test_size_mismatch_of_768_and_2048_names_the_other_family() -> None:
    text = (
        "size mismatch for attn2.to_k.weight: copying a param with shape torch.Size([640, {}]) from checkpoint, "
        "the shape in current model is torch.Size([640, {}])."
    )
    sdxl = explain(RuntimeError(text.format(2048, 768)), spec_of())
    assert (sdxl.code, sdxl.patch) == ("wrong_family", {"/base_model/family": "sdxl"})
    on_sdxl = spec_of(base_model={"path": "b", "family": "sdxl"})
    assert explain(RuntimeError(text.format(768, 2048)), on_sdxl).patch == {"/base_model/family": "sd"}
    assert explain(RuntimeError(text.format(777, 2048)), on_sdxl).patch is None


def test_layers_that_do_not_match_become_attention_unless_they_are() -> None:
    error = FAILURES["no_target_modules"][0]
    assert explain(error, spec_of(method={"targets": "all"})).patch == {"/method/targets": "attn"}
    assert explain(error, spec_of(method={"targets": "attn"})).patch is None


def test_process_that_the_system_ended_is_explained_by_its_signal() -> None:
    spec = spec_of(training={"batch_size": 4})
    for status in (-9, 137):
        killed = explain_exit(status, spec)
        assert killed is not None
        assert (killed.code, killed.exit_code, killed.category) == ("killed", 71, "capacity")
        assert killed.patch == {"/training/batch_size": 1}
    shared = explain_exit(-7)
    assert shared is not None
    assert shared.code == "shared_memory_full"
    assert explain_exit(70) is None
    assert explain_exit(-15) is None


def test_change_takes_along_what_does_not_go_together_with_it() -> None:
    training = {"batch_size": 1, "gradient_checkpointing": "all", "compile": "regional"}
    spec = spec_of(training=training, base_model={"path": "b", "quantise": "auto"})
    assert explain(out_of(8), spec).patch == {"/training/offload": "auto", "/training/compile": "off"}
    few = spec_of(training={"epochs": 1, "warmup_steps": 5000})
    (patch,) = [each.patch for each in warnings_for(few, SetFacts(10)) if each.code == "too_few_steps"]
    assert patch == {"/training/steps": 1000, "/training/epochs": None, "/training/warmup_steps": 0}
    assert applicable({"/training/learning_rate": 2.0}, few) is None
