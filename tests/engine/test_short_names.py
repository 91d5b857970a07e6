"""Recipe files without sections, and every setting as an editor and a reader see it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from training.engine.cli import main
from training.engine.export.weights_file import read_metadata
from training.engine.parsing import SpecError
from training.engine.schema import json_schema, settings_page
from training.engine.short_names import NAMES, in_sections
from training.engine.spec import FIELDS, RunSpec, validate

SHORT = """
train_data_dir: pictures
base_model: models/base/one
lora_rank: 8
batch_size: 4
epochs: 3
learning_rate: 1e-4
save_steps: 100
output_dir: out/ink
"""


def test_typical_short_file_is_a_whole_recipe(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(SHORT)
    spec = RunSpec.load(tmp_path / "run.yaml")
    assert spec == RunSpec.from_dict({
        "name": "ink", "run_dir": str(tmp_path / "out/ink"), "base_model": {"path": str(tmp_path / "models/base/one")},
        "dataset": {"folder": str(tmp_path / "pictures")}, "method": {"rank": 8}, "checkpoint": {"every_steps": 100},
        "training": {"batch_size": 4, "epochs": 3, "learning_rate": 1e-4},
    })  # fmt: skip


def test_typical_short_file_runs_as_it_stands(
    bases: dict[str, Path], pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.yaml"
    text = SHORT.replace("pictures", str(pictures)).replace("models/base/one", str(bases["sd"]))
    # So small that it takes a second; everything else is as written.
    path.write_text(
        text.replace("epochs: 3", "epochs: 1").replace("100", "2") + "resolution: 32\nthreads: 1\n"
    )
    assert main(["validate", str(path)]) == 0
    assert main(["run", str(path)]) == 0
    run_dir = tmp_path / "out" / "ink"
    assert capsys.readouterr().out.splitlines()[-1] == str(run_dir / "exports" / "ink.safetensors")
    assert sorted(each.name for each in (run_dir / "checkpoints").iterdir()) == [
        "step-00000002", "step-00000003"
    ]  # fmt: skip
    assert read_metadata(run_dir / "exports" / "ink.safetensors")["ss_network_dim"] == "8"
    assert main(["run", str(path)]) == 64, "there is one already"
    assert main(["run", str(path), "--resume"]) == 0


def read(**data: Any) -> tuple[Any, list[tuple[str, str, str]]]:
    errors: list[SpecError] = []
    found = in_sections(data, errors)
    return found, [(error.pointer, error.code, error.message) for error in errors]


def test_sections_and_short_names_may_be_mixed() -> None:
    found, errors = read(
        name="x", base_model="b", family="sdxl", training={"steps": 5}, seed=3, method={"alpha": 2.0}, rank=4
    )
    assert errors == []
    assert found == {
        "name": "x", "base_model": {"path": "b", "family": "sdxl"}, "training": {"steps": 5, "seed": 3},
        "method": {"alpha": 2.0, "rank": 4},
    }  # fmt: skip


def test_file_with_sections_alone_is_left_as_it_is() -> None:
    data = {"trigger": "inky", "base_model": {"path": "b"}, "training": {"steps": 5}, "threads": 1}
    assert read(**data) == (data, [])


@pytest.mark.parametrize(
    ("data", "pointer", "code", "words"),
    [
        ({"lora_rnk": 8}, "/lora_rnk", "unknown_key", "did you mean 'lora_rank'?"),
        ({"train_dir": "p"}, "/train_dir", "unknown_key", "did you mean 'train_data_dir'?"),
        ({"save_step": 8}, "/save_step", "unknown_key", "did you mean 'save_steps'?"),
        ({"trainng": {}}, "/trainng", "unknown_key", "did you mean 'training'?"),
        ({"qqq": 1}, "/qqq", "unknown_key", "known names are: name, base_model"),
        ({7: 1}, "/7", "unknown_key", "unknown setting '7'"),
        ({"lr": 1, "learning_rate": 2}, "/learning_rate", "conflict", "'learning_rate' and 'lr' are the same"),
        ({"training": {"seed": 1}, "seed": 2}, "/seed", "conflict", "'seed' and 'training.seed' are the same"),
        ({"training": 5, "seed": 2}, "/seed", "conflict", "'seed' and 'training.seed' are the same"),
    ],
)  # fmt: skip
def test_name_without_a_place_gets_the_nearest_known_one(
    data: dict[Any, Any], pointer: str, code: str, words: str
) -> None:
    errors: list[SpecError] = []
    in_sections(data, errors)
    assert [(error.pointer, error.code) for error in errors] == [(pointer, code)]
    assert words in errors[0].message


def test_short_file_without_a_name_is_called_after_its_trigger_word() -> None:
    assert read(lora_rank=8, trigger="inky")[0]["name"] == "inky"
    assert "name" not in read(lora_rank=8)[0]


def test_what_does_not_come_from_a_file_has_sections() -> None:
    assert [error.pointer for error in validate({"name": "x", "lora_rank": 8})] == [
        "/lora_rank",
        "/base_model/path",
    ]


def test_every_short_name_is_one_setting_and_no_other_ones_name() -> None:
    for name, pointer in NAMES.items():
        assert pointer in FIELDS
        assert f"/{name}" not in FIELDS or pointer == f"/{name}"


# -- the same settings for an editor and a reader ----------------------------------------------------------------------


def test_schema_takes_what_the_parser_takes() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    check = jsonschema.Draft202012Validator(schema)
    whole = RunSpec.from_dict(
        {"name": "x", "base_model": {"path": "b"}, "dataset": {"folder": "d"}}
    ).to_dict()
    check.validate(whole)
    check.validate({**yaml.safe_load(SHORT), "learning_rate": 1e-4})
    for wrong in (
        {"lora_rnk": 8}, {"lora_rank": 0}, {"training": {"schedule": "cosin"}}, {"training": {"batch_size": 1.5}},
        {"base_model": {}}, {"base_model": {"path": ""}}, {"sampling": {"prompts": ["a"] * 17}},
    ):  # fmt: skip
        assert not check.is_valid(wrong), wrong


@pytest.mark.parametrize("pointer", FIELDS)
def test_schema_has_the_limits_and_the_default_of_every_setting(pointer: str) -> None:
    info, node = FIELDS[pointer], json_schema()
    for part in pointer.strip("/").split("/"):
        node = next((each for each in node.get("anyOf", ()) if "properties" in each), node)["properties"][
            part
        ]
    node = node.get("anyOf", [node])[-1]
    check = jsonschema.Draft202012Validator(node)
    assert (node["title"], node["description"]) == (info.label, info.help)
    if not info.required:
        assert check.is_valid(node["default"])
    assert check.is_valid(None) == info.nullable
    if info.kind in ("int", "float"):
        assert info.minimum is not None
        assert info.maximum is not None
        assert [check.is_valid(value) for value in (info.minimum, info.maximum)] == [True, True]
        assert not check.is_valid(info.minimum - 1)
        assert not check.is_valid(info.maximum * 2 + 1)


def test_page_of_settings_is_the_one_in_the_documentation() -> None:
    page = Path(__file__).parents[2] / "docs" / "settings.md"
    assert page.read_text() == settings_page(), "run: lora-train settings > docs/settings.md"
