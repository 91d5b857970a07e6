"""A recipe file need not say what its base model's folder says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from training.engine.base_defaults import PIPELINES, fill_in, native_resolution
from training.engine.registry import BUILT_IN, FAMILIES, load_family
from training.engine.spec import RunSpec


def write_model(folder: Path, pipeline: str, parts: dict[str, dict[str, object]]) -> Path:
    for name, config in {**parts, "": {"_class_name": pipeline}}.items():
        path = folder / name / "config.json" if name else folder / "model_index.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(config))
    return folder


def loaded(tmp_path: Path, text: str) -> RunSpec:
    (tmp_path / "run.yaml").write_text(f"name: x\ntrain_data_dir: pictures\n{text}")
    return RunSpec.load(tmp_path / "run.yaml")


def test_pipelines_are_those_of_our_families() -> None:
    ours = {pipeline: name for name in BUILT_IN[FAMILIES] for pipeline in load_family(name).pipelines}
    assert ours == PIPELINES


@pytest.mark.parametrize("name", sorted(BUILT_IN[FAMILIES]))
def test_every_saved_model_is_known_for_what_it_is(name: str, bases: dict[str, Path], tmp_path: Path) -> None:
    spec = loaded(tmp_path, f"base_model: {bases[name]}\n")
    assert spec.base_model.family == name
    assert spec.training.resolution == native_resolution(bases[name], name)


@pytest.mark.parametrize(
    ("pipeline", "denoiser", "size", "levels", "family", "pixels"),
    [
        ("StableDiffusionPipeline", "unet", 64, 4, "sd", 512),
        ("StableDiffusionPipeline", "unet", 96, 4, "sd", 768),
        ("StableDiffusionXLPipeline", "unet", 128, 4, "sdxl", 1024),
        ("StableDiffusion3Pipeline", "transformer", 128, 4, "sd3", 1024),
        ("SanaPipeline", "transformer", 32, 6, "sana", 1024),
        ("FluxPipeline", "transformer", None, 4, "flux", 1024),
        ("WanPipeline", "transformer", None, 4, "wan", 640),
        ("StableDiffusionPipeline", "unet", 5000, 4, "sd", 512),
    ],
)
def test_size_is_the_one_that_the_model_was_made_for(
    pipeline: str, denoiser: str, size: int | None, levels: int, family: str, pixels: int, tmp_path: Path
) -> None:
    names = "encoder_block_out_channels" if family == "sana" else "block_out_channels"
    write_model(tmp_path / "model", pipeline, {denoiser: {"sample_size": size}, "vae": {names: [1] * levels}})
    spec = loaded(tmp_path, "base_model: model\n")
    assert (spec.base_model.family, spec.training.resolution) == (family, pixels)


def test_what_a_file_says_is_kept(tmp_path: Path) -> None:
    write_model(tmp_path / "model", "StableDiffusionXLPipeline", {"unet": {"sample_size": 128}})
    spec = loaded(tmp_path, "base_model: {path: model, family: sd}\ntraining: {resolution: 768}\n")
    assert (spec.base_model.family, spec.training.resolution) == ("sd", 768)


@pytest.mark.parametrize("index", ["", "[1]", '{"_class_name": "ElsewherePipeline"}'])
def test_folder_that_does_not_tell_leaves_the_defaults(index: str, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model_index.json").write_text(index)
    spec = loaded(tmp_path, "base_model: model\n")
    assert (spec.base_model.family, spec.training.resolution) == ("sd", 512)


@pytest.mark.parametrize(
    "data", [None, [], {"base_model": 3}, {"base_model": {"path": 3}}, {"training": None}]
)
def test_what_is_no_recipe_is_left_to_its_check(data: object, tmp_path: Path) -> None:
    before = json.dumps(data)
    fill_in(data, tmp_path)
    assert json.dumps(data) == before
