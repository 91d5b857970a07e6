"""The command line: what a person types and reads."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from training.engine.cli import main

from .conftest import make_spec


@pytest.fixture
def config(bases: dict[str, Path], pictures: Path, tmp_path: Path) -> Path:
    spec = make_spec(bases["sd"], pictures, cache_dir=str(tmp_path / "cache"))
    (tmp_path / "run.yaml").write_text(spec.to_yaml())
    return tmp_path / "run.yaml"


def test_run_then_inspect_then_export_again(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "out"
    assert main(["run", str(config), "--run-dir", str(run_dir)]) == 0
    path = run_dir / "exports" / "tiny.safetensors"
    said = capsys.readouterr().out
    assert "step 6/6" in said
    assert said.splitlines()[-1] == str(path)
    assert main(["inspect", str(path)]) == 0
    said = capsys.readouterr().out
    assert "rank 4, torch.float16" in said
    assert "ss_network_alpha                     2.0" in said
    assert main(["inspect", str(run_dir / "checkpoints" / "step-00000003")]) == 0
    assert "checkpoint of step 3" in capsys.readouterr().out
    assert (
        main(["export", str(run_dir), "--checkpoint", "step-00000003", "--dtype", "fp32", "--name", "early"])
        == 0
    )
    assert (run_dir / "exports" / "early.safetensors").is_file()


def test_run_does_not_write_over_an_earlier_one(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out" / "checkpoints").mkdir(parents=True)
    assert main(["run", str(config), "--run-dir", str(tmp_path / "out")]) == 64
    assert "--resume" in capsys.readouterr().err


def test_validate_prints_every_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.yaml").write_text("name: x\ntraning: {steps: 0}\n")
    assert main(["validate", str(tmp_path / "bad.yaml")]) == 64
    assert capsys.readouterr().out.splitlines()[:1] == [
        "/traning: unknown setting 'traning'; did you mean 'training'?"
    ]


def test_estimate_counts_the_pictures(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", str(config), "--device", "24 GB", "--seconds-per-step", "2"]) == 0
    assert "steps      6" in capsys.readouterr().out


def test_families_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["families"]) == 0
    assert "Stable Diffusion 1.x / 2.x" in capsys.readouterr().out


def test_failure_prints_what_to_do(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = yaml.safe_load(config.read_text())
    data["dataset"]["folder"] = str(tmp_path / "gone")
    config.write_text(yaml.safe_dump(data))
    assert main(["run", str(config), "--run-dir", str(tmp_path / "out")]) == 65
    assert "error (folder_missing)" in capsys.readouterr().err


def test_documented_example_is_valid_and_complete() -> None:
    text = (Path(__file__).parents[2] / "docs" / "trainer.md").read_text()
    example = text.split("```yaml\n", 1)[1].split("```", 1)[0]
    from training.engine.spec import FIELDS, RunSpec

    spec = RunSpec.from_yaml(example)
    named = yaml.safe_load(example)
    missing = []
    for pointer in FIELDS:
        node = named
        for part in pointer.strip("/").split("/"):
            if not isinstance(node, dict) or part not in node:
                missing.append(pointer)
                break
            node = node[part]
    assert missing == []
    assert spec.training.steps is None
