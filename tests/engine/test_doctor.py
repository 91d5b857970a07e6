"""`lora-train doctor`: what is well is said, what is broken is named with its remedy and ends with 1."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from training.engine import doctor, registry
from training.engine.cli import main


@pytest.fixture
def examined(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the command and return its exit code and findings by name."""

    def run(*arguments: str, run_dir: Path = tmp_path / "runs") -> tuple[int, dict[str, dict[str, str]]]:
        code = main(["doctor", "--json", "--run-dir", str(run_dir), *arguments])
        report = json.loads(capsys.readouterr().out)
        assert report["ok"] is (code == 0)
        return code, {finding["name"]: finding for finding in report["findings"]}

    return run


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Let a test register plugins."""
    registry._entries.cache_clear()
    yield monkeypatch
    monkeypatch.undo()
    registry._entries.cache_clear()


def test_healthy_machine_trains_a_tiny_model_and_ends_with_zero(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--run-dir", str(tmp_path / "runs")]) == 0
    told = capsys.readouterr().out.splitlines()
    found = {line[9:29].strip(): line[:8].strip() for line in told[:-1] if line[0] != " "}
    assert found["python"] == found["packages"] == found["pictures"] == found["safetensors"] == "ok"
    assert found["families"] == found["methods"] == found["captioners"] == "ok"
    assert found["training on cpu"] == "ok"
    assert "failed" not in found.values()
    assert told[-1] == f"All {len(found)} are well, or only warned of."
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["cache"]


def test_quick_examination_trains_nothing(examined: Any) -> None:
    code, found = examined("--quick")
    assert code == 0
    assert "training on cpu" not in found
    assert found["torch"]["state"] == "ok"


def test_run_folder_that_cannot_be_is_named_with_its_remedy(examined: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, found = examined("--quick", run_dir=tmp_path / "file" / "runs")
    assert code == 1
    assert found["run folder"]["state"] == "failed"
    assert "Not a directory" in found["run folder"]["detail"]
    assert found["run folder"]["fix"]
    assert found["cache folder"]["state"] == "failed"


def test_cache_folder_may_lie_elsewhere(examined: Any, tmp_path: Path) -> None:
    code, found = examined("--quick", "--cache-dir", str(tmp_path / "elsewhere"))
    assert code == 0
    assert found["cache folder"]["detail"].startswith(str(tmp_path / "elsewhere"))


def test_broken_plugin_is_named_and_the_others_are_still_listed(
    examined: Any, plugins: pytest.MonkeyPatch
) -> None:
    plugins.setitem(registry.BUILT_IN[registry.FAMILIES], "ghost", "no_such_module:Ghost")
    registry._entries.cache_clear()
    code, found = examined("--quick")
    assert code == 1
    assert found["families"]["detail"] == ", ".join(n for n in registry.family_names() if n != "ghost")


def test_broken_plugin_says_what_is_wrong_with_it(
    plugins: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plugins.setitem(registry.BUILT_IN[registry.CAPTIONERS], "ghost", "no_such_module:Ghost")
    registry._entries.cache_clear()
    assert main(["doctor", "--quick", "--run-dir", str(tmp_path)]) == 1
    told = capsys.readouterr().out
    assert "'ghost' cannot be imported from no_such_module:Ghost: No module named 'no_such_module'" in told
    assert "Repair or remove the plugin that registers it." in told
    assert told.splitlines()[-1].endswith("are broken: captioners")


def test_package_that_is_too_old_or_missing_is_named(examined: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "REQUIRED", {"pillow": "99.1", "no-such-package": "1"})
    code, found = examined("--quick")
    assert code == 1
    assert "is older than 99.1; no-such-package is missing" in found["packages"]["detail"]
    assert found["packages"]["fix"] == "Install the requirements again: bin/setup."


def test_required_packages_are_those_of_the_project() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    wanted = dict(line.split(">=") for line in project["dependencies"])
    assert wanted == doctor.REQUIRED
    assert project["requires-python"] == ">=" + ".".join(map(str, doctor.OLDEST_PYTHON))


def test_picture_format_without_a_decoder_is_named(examined: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.init()
    monkeypatch.delitem(Image.SAVE, "WEBP")
    code, found = examined("--quick")
    assert code == 1
    assert found["pictures"]["detail"] == "cannot be read: WEBP"


def test_gpu_that_this_build_cannot_use_is_broken(examined: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(doctor, "_driver", lambda: "550.54.14")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    code, found = examined("--quick")
    assert code == 1
    assert found["GPU"]["detail"] == "driver 550.54.14 is there, but PyTorch sees no GPU"
    assert found["GPU"]["fix"] == "Install a PyTorch built for CUDA: this one is for the CPU."


@pytest.mark.parametrize(
    ("generation", "built_for", "runs"),
    [
        ((8, 6), ["sm_80", "sm_90"], True),
        ((8, 9), ["sm_90"], False),
        ((12, 0), ["sm_80", "sm_90"], False),
        ((12, 0), ["sm_80", "compute_90"], True),
        ((7, 0), ["sm_75", "compute_80"], False),
        ((9, 0), ["sm_90a"], True),
        ((9, 0), [], True),
    ],
)
def test_gpu_needs_kernels_of_its_generation(
    generation: tuple[int, int], built_for: list[str], runs: bool
) -> None:
    assert doctor._runs_on(*generation, built_for) is runs


def test_low_limit_is_only_warned_of(examined: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LEAST_FILES", 10**9)
    monkeypatch.setattr(doctor, "LEAST_DISK_MB", 10**12)
    code, found = examined("--quick")
    assert code == 0
    assert (found["open files"]["state"], found["open files"]["fix"]) == (
        "warning",
        "Raise the limit of open files: ulimit -n 4096.",
    )
    assert found["run folder"]["state"] == "warning"


def test_optional_package_that_is_there_but_broken_is_named(
    examined: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "brokenpackage.py").write_text(
        "raise ImportError('libcudart.so.12: cannot open shared object file')"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(doctor, "OPTIONAL", {"brokenpackage": "nothing", "absent_package": "less"})
    code, found = examined("--quick")
    assert code == 1
    assert found["brokenpackage"]["fix"].startswith(
        "Install the worker's requirements again; unset LD_LIBRARY_PATH"
    )
    assert found["extras"]["detail"] == "installed: none; not installed: absent_package (less)"


def test_training_that_fails_is_explained_as_a_run_would_be(
    examined: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(trainer: Any) -> bool:
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device")

    monkeypatch.setattr("training.engine.api.LoRATrainer.train", fail)
    code, found = examined()
    assert code == 1
    assert found["training on cpu"]["fix"] == "Install a PyTorch built for the GPU's generation."


def test_check_that_breaks_is_a_failed_check(examined: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.engine.resident.available_mb", lambda: 1 // 0)
    code, found = examined("--quick")
    assert code == 1
    assert (found["memory"]["state"], found["memory"]["detail"]) == (
        "failed",
        "integer division or modulo by zero",
    )
