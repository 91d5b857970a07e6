"""The command line: what a person types and reads."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from training.engine.cli import main
from training.engine.errors import Interrupted
from training.engine.loop import TrainingLoop

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
    assert "32 modules, LoRA, rank 4, alpha 2.0" in said
    assert "ss_network_alpha                     2.0" in said
    assert main(["inspect", str(run_dir / "checkpoints" / "step-00000003")]) == 0
    assert "checkpoint of step 3" in capsys.readouterr().out
    assert main(["inspect", str(run_dir / "checkpoints" / "step-00000003"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["step"], told["tensors"], told["recipe"]["method"]["rank"]) == (3, 64, 4)
    assert (
        main(["export", str(run_dir), "--checkpoint", "step-00000003", "--dtype", "fp32", "--name", "early"])
        == 0
    )
    assert (run_dir / "exports" / "early.safetensors").is_file()


@pytest.fixture
def finished(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A run that has ended; what it printed is forgotten."""
    assert main(["run", str(config), "--run-dir", str(tmp_path / "out")]) == 0
    capsys.readouterr()
    return tmp_path / "out"


def test_export_of_an_earlier_checkpoint_leaves_the_finished_file_alone(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (finished / "exports" / "tiny.safetensors").read_bytes()
    assert main(["export", str(finished), "--checkpoint", "step-00000003"]) == 0
    assert capsys.readouterr().out.strip() == str(finished / "exports" / "tiny-step00000003.safetensors")
    assert (finished / "exports" / "tiny.safetensors").read_bytes() == before
    assert main(["export", str(finished), "--dtype", "fp32"]) == 0
    assert capsys.readouterr().out.strip() == str(finished / "exports" / "tiny.safetensors")


def test_export_refuses_a_checkpoint_that_is_not_there(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = sorted((finished / "exports").iterdir())
    assert main(["export", str(finished), "--checkpoint", "step-00000040"]) == 64
    told = capsys.readouterr().err
    assert "error (checkpoint_missing): there is no 'step-00000040'" in told
    assert "There are: step-00000006, step-00000003." in told
    assert sorted((finished / "exports").iterdir()) == files


def test_export_refuses_a_folder_that_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(tmp_path)]) == 64
    assert f"error (run_missing): {tmp_path} is not the folder of a run" in capsys.readouterr().err


def test_export_refuses_a_damaged_checkpoint(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = finished / "checkpoints" / "step-00000006" / "adapter.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert main(["export", str(finished), "--checkpoint", "step-00000006"]) == 65
    assert "error (checkpoint_damaged)" in capsys.readouterr().err
    # Without a name the newest whole one is meant, and its file says that it is not the last.
    assert main(["export", str(finished)]) == 0
    told = capsys.readouterr()
    assert told.out.strip() == str(finished / "exports" / "tiny-step00000003.safetensors")
    assert "passed over: step-00000006/adapter.safetensors is damaged" in told.err


def test_recipe_edited_before_the_first_checkpoint_is_the_one_that_counts(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = yaml.safe_load(config.read_text())
    data["sampling"]["prompts"] = ["a"]
    data["training"]["learning_rate"] = 10.0**-9
    config.write_text(yaml.safe_dump(data))
    run_dir = tmp_path / "out"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("training.engine.loop.TrainingLoop._borders", _stop)
        assert main(["run", str(config), "--run-dir", str(run_dir)]) == 75
    first = (run_dir / "samples" / "step-00000000-p0.png").read_bytes()
    data["sampling"]["prompts"] = ["b"]
    data["training"]["learning_rate"] = 3e-3
    config.write_text(yaml.safe_dump(data))
    assert main(["run", str(config), "--run-dir", str(run_dir)]) == 0
    assert (run_dir / "samples" / "step-00000000-p0.png").read_bytes() != first
    assert main(["export", str(run_dir)]) == 0
    assert "recipe_changed" not in capsys.readouterr().err


def _stop(loop: TrainingLoop) -> None:
    """Interrupt as a cancel does: nothing is saved."""
    raise Interrupted("cancel")


def test_refused_recipe_leaves_the_recipe_of_the_run_alone(
    config: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = yaml.safe_load(config.read_text())
    data["training"]["learning_rate"] = 1e-5
    config.write_text(yaml.safe_dump(data))
    assert main(["run", str(config), "--run-dir", str(finished), "--resume"]) == 64
    assert "recipe_changed" in capsys.readouterr().err
    assert main(["export", str(finished)]) == 0


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


def test_validate_warns_of_what_will_disappoint_and_says_what_to_write(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = yaml.safe_load(config.read_text())
    data["training"] |= {"steps": 500, "learning_rate": 0.02, "batch_size": 8}
    config.write_text(yaml.safe_dump(data))
    assert main(["validate", str(config)]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[:2] == [
        "warning (learning_rate_high): A learning rate of 0.02 destroys most base models. "
        "1e-4 is usual, for lion a third of it.",
        "  training.learning_rate: 0.0001",
    ]
    assert told[2].startswith(
        "warning (batch_over_bucket): The batch size is 8, and no shape of picture has more than 6"
    )
    assert told[3] == "  training.batch_size: 6"
    assert told[-1].startswith(f"{config}: fine. Recipe ")


def test_validate_says_that_a_caption_has_no_picture(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = yaml.safe_load(config.read_text())
    shutil.copytree(data["dataset"]["folder"], tmp_path / "set")
    (tmp_path / "set" / "lost.txt").write_text("a plate")
    data["dataset"]["folder"] = str(tmp_path / "set")
    config.write_text(yaml.safe_dump(data))
    assert main(["validate", str(config)]) == 0
    assert "warning (captions_orphaned): 1 caption files belong to no picture." in capsys.readouterr().out


def test_failure_of_a_library_prints_the_setting_that_helps(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(loop: TrainingLoop) -> None:
        raise RuntimeError("stack of latents: loss is nan")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("training.engine.loop.TrainingLoop._one_step", fail)
        assert main(["run", str(config), "--run-dir", str(tmp_path / "out")]) == 64
    told = capsys.readouterr().err
    assert "error (diverged)" in told
    assert "  training.learning_rate: 0.00075" in told


def test_validate_says_where_yaml_is_broken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.yaml").write_text("name: x\n  bad: [")
    assert main(["validate", str(tmp_path / "bad.yaml")]) == 64
    assert "this is not valid YAML at line 2" in capsys.readouterr().err


def test_inspect_says_that_a_folder_is_no_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(tmp_path)]) == 65
    told = capsys.readouterr().err
    assert "error (not_a_checkpoint)" in told
    assert "checkpoints/step-00000120" in told


def test_estimate_counts_the_pictures(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", str(config), "--device", "24 GB", "--seconds-per-step", "2"]) == 0
    said = capsys.readouterr().out
    assert "steps      6" in said
    assert "base       Stable Diffusion 1.x / 2.x" in said
    assert "batch      up to 64 pictures at once fit 24 GB" in said
    assert main(["estimate", str(config), "--images", "10"]) == 0
    assert "host" not in capsys.readouterr().out


def test_families_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["families"]) == 0
    assert "Stable Diffusion 1.x / 2.x" in capsys.readouterr().out


def test_failure_prints_what_to_do(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = yaml.safe_load(config.read_text())
    data["dataset"]["folder"] = str(tmp_path / "gone")
    config.write_text(yaml.safe_dump(data))
    assert main(["run", str(config), "--run-dir", str(tmp_path / "out")]) == 65
    assert "error (folder_missing)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("section", "value", "code"),
    [
        ("sampling", {"sampler": "eulr"}, "unknown_sampler"),
        ("training", {"optimizer": "adam"}, "unknown_optimizer"),
        ("output", {"layout": "comfy"}, "layout_unsupported"),
    ],
)
def test_name_that_nothing_has_is_told_before_any_work(
    section: str,
    value: dict[str, str],
    code: str,
    config: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = yaml.safe_load(config.read_text())
    data[section] = {**data.get(section, {}), **value}
    config.write_text(yaml.safe_dump(data))
    assert main(["run", str(config), "--run-dir", str(tmp_path / "out")]) == 64
    told = capsys.readouterr()
    assert f"error ({code})" in told.err
    assert told.out == ""


@pytest.mark.parametrize(
    ("method", "code"),
    [({"modules": ["to_qq"]}, "no_target_modules"), ({"rules": ["to_kk: rank=3"]}, "unmatched_rule")],
)
def test_layer_that_the_model_lacks_is_told_before_pictures_are_encoded(
    method: dict[str, list[str]], code: str, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = yaml.safe_load(config.read_text())
    data["method"] = {**data.get("method", {}), **method}
    config.write_text(yaml.safe_dump(data))
    assert main(["run", str(config), "--run-dir", str(tmp_path / "out")]) == 64
    told = capsys.readouterr()
    assert f"error ({code})" in told.err
    assert "Near names: to_" in told.err
    assert "cache" not in told.out
    assert not (tmp_path / "out" / "cache" / "latents").exists()


def test_base_model_that_was_cut_short_is_told(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = yaml.safe_load(config.read_text())
    base = tmp_path / "cut"
    shutil.copytree(data["base_model"]["path"], base)
    weights = base / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    data["base_model"]["path"] = str(base)
    config.write_text(yaml.safe_dump(data))
    assert main(["run", str(config), "--run-dir", str(tmp_path / "out")]) == 65
    assert "error (base_model_damaged)" in capsys.readouterr().err


def test_documented_example_is_valid_and_complete() -> None:
    text = (Path(__file__).parents[2] / "docs" / "trainer.md").read_text()
    example = text.split("## A complete configuration", 1)[1].split("```yaml\n", 1)[1].split("```", 1)[0]
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
