"""The example plugin of docs/plugins.md: installed as a package, it adds a family, a method, a captioner, a sampler."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import diffusers
import pytest
import torch
from PIL import Image

from training.engine import registry
from training.engine.cli import main
from training.engine.errors import ConfigurationError
from training.engine.families.base import ModelFamily

from . import known_families
from . import test_conformance as models
from . import test_conformance_runs as runs
from .conformance import inputs_of
from .conftest import CPU, Build, make_spec

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "plugin"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the example with pip into a folder of its own; nothing is fetched."""
    target = tmp_path_factory.mktemp("plugin")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation",
         "--target", str(target), str(EXAMPLE)],
        check=True, timeout=300,
    )  # fmt: skip
    return target


@pytest.fixture
def plugin(installed: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have it importable in this process for one test."""
    monkeypatch.syspath_prepend(str(installed))
    registry._entries.cache_clear()
    yield
    registry._entries.cache_clear()
    for name in [name for name in sys.modules if name.startswith("lora_foundry_example")]:
        del sys.modules[name]


def test_broken_plugin_is_named_where_it_is_wanted_and_stops_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    about = tmp_path / "broken-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[lora_foundry.families]\naaa = gone.away:Family\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry._entries.cache_clear()
    try:
        with pytest.raises(ConfigurationError, match=r"cannot be imported from gone\.away:Family") as caught:
            registry.load_family("aaa")
        assert (caught.value.code, registry.family_of_pipeline("WanPipeline")) == ("plugin_broken", "wan")
        assert main(["families"]) == 0
        assert "family  aaa          broken: the model family 'aaa'" in capsys.readouterr().out
    finally:
        registry._entries.cache_clear()


@pytest.fixture
def auraflow(
    plugin: None, bases: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ModelFamily:
    family = registry.load_family("auraflow")
    folder = tmp_path / "base" / "auraflow"
    family.save(family.tiny(), folder)
    monkeypatch.setitem(bases, "auraflow", folder)
    known = known_families.Known(
        "AuraFlowPipeline",
        {"all": 23},
        {"guidance_scale": 1.0},
        takes_sigmas=True,
    )
    monkeypatch.setitem(known_families.KNOWN, "auraflow", known)
    return family


def test_its_parts_are_found_by_name(plugin: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert "auraflow" in registry.family_names()
    assert "lora-plus" in registry.method_names()
    assert "brightness" in registry.captioner_names()
    assert "late" in registry.sampler_names()
    assert main(["families"]) == 0
    listed = {tuple(line.split()[:2]) for line in capsys.readouterr().out.splitlines()}
    assert listed >= {
        ("family", "auraflow"),
        ("method", "lora-plus"),
        ("captioner", "brightness"),
        ("sampler", "late"),
    }
    captioner = registry.load_captioner("brightness")
    captioner.load(None, device=CPU, longest=5)
    pictures = [Image.new("RGB", (8, 8), level) for level in ("black", "grey", "white")]
    assert captioner.describe(pictures) == ["dark", "medium", "bright"]


def test_its_family_is_what_the_diffusers_pipeline_is(auraflow: ModelFamily, bases: dict[str, Path]) -> None:
    models.test_pictures_are_those_of_the_diffusers_pipeline(auraflow)
    models.test_scaling_of_latents_is_undone(auraflow)
    models.test_saved_model_computes_the_same(auraflow, bases)
    models.test_a_row_is_the_same_alone_and_among_others(auraflow)
    runs.test_perfect_prediction_has_no_loss_and_draws_the_picture(auraflow)


def test_its_family_trains_and_resumes(
    auraflow: ModelFamily, build: Build, pictures: Path, tmp_path: Path
) -> None:
    models.test_fresh_adapter_changes_nothing(auraflow, pictures, "all")
    models.test_micro_batches_add_up_to_the_batch(auraflow, build, 3)
    runs.test_resumed_run_ends_with_the_same_weights(auraflow, build, tmp_path)


def test_its_method_has_two_rates(auraflow: ModelFamily, build: Build) -> None:
    trainer = build("auraflow", method={"type": "lora-plus"}, training={"learning_rate": 1e-3})
    assert {group.name: group.learning_rate for group in trainer.adapter.groups()} == {
        "denoiser/lora_A": 1e-3,
        "denoiser/lora_B": 16e-3,
    }


def test_command_line_trains_with_all_of_it_and_diffusers_reads_the_file(
    auraflow: ModelFamily, installed: Path, bases: dict[str, Path], pictures: Path, tmp_path: Path
) -> None:
    spec = make_spec(
        bases["auraflow"], pictures, method={"type": "lora-plus", "alpha": 3.0}, output={"dtype": "fp32"},
        sampling={"sampler": "late", "prompts": ["a red cat"], "every_steps": 6}, training={"learning_rate": 1e-2},
    )  # fmt: skip
    (tmp_path / "run.yaml").write_text(spec.to_yaml())
    paths = os.pathsep.join([str(installed), str(ROOT)])
    subprocess.run(
        [sys.executable, "-m", "training.engine.cli", "run", str(tmp_path / "run.yaml"),
         "--run-dir", str(tmp_path / "out")],
        check=True, timeout=300, env={**os.environ, "PYTHONPATH": paths}, cwd=tmp_path,
    )  # fmt: skip
    file = tmp_path / "out" / "exports" / "tiny.safetensors"
    assert len(list((tmp_path / "out" / "samples").rglob("*.png"))) == 2
    parts = auraflow.load(bases["auraflow"], device=CPU, dtype=torch.float32)
    with torch.no_grad():
        before = auraflow.forward(parts, *inputs_of(auraflow, parts))
        pipeline = parts.pipeline(diffusers.AuraFlowPipeline)
        pipeline.load_lora_weights(file)
        after = auraflow.forward(parts, *inputs_of(auraflow, parts))
    assert float((after - before).norm()) > 1e-4 * float(before.norm())
