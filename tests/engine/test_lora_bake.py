"""LoRA files into a base model, and out of a tuned one: exact numbers on tiny models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from training.engine.cli import main
from training.engine.errors import ConfigurationError, DataError
from training.engine.export.factors import read_factors
from training.engine.export.weights_file import read_metadata
from training.engine.families.base import Parts
from training.engine.lora_files.bake import bake
from training.engine.lora_files.extract import extract
from training.engine.registry import load_family

from .conftest import CPU
from .lora_samples import assert_same_effect, output_of, table_of, write_sample

SD = load_family("sd")
KOHYA = table_of(SD, "kohya")


def loaded(folder: Path, name: str = "sd") -> Parts:
    return load_family(name).load(folder, device=CPU, dtype=torch.float32)


@pytest.mark.parametrize("method", ["lora", "dora", "lokr"])
def test_baked_model_does_what_the_files_do(
    method: str, pair: tuple[Path, Path], bases: dict[str, Path], tmp_path: Path
) -> None:
    one = write_sample(tmp_path / "a.safetensors", SD, KOHYA, rank=2, alpha=50.0, method=method, only="attn")
    done = bake([(one, 0.5)], bases["sd"], tmp_path / "baked")
    parts = loaded(bases["sd"])
    hooked = output_of(SD, parts, (one, KOHYA, 0.5))
    new = loaded(tmp_path / "baked")
    alone = parts.with_denoiser(new.denoiser)
    assert_same_effect(output_of(SD, alone), hooked, output_of(SD, parts))
    encoder, before = (
        new.components["text_encoder"].state_dict(),
        parts.components["text_encoder"].state_dict(),
    )
    assert sorted({key.split(".")[-2] for key in before if not torch.equal(before[key], encoder[key])}) == [
        "k_proj", "out_proj", "q_proj", "v_proj",
    ]  # fmt: skip
    assert done.layers == 40
    assert json.loads((tmp_path / "baked" / "lora_foundry.json").read_text())["sources"][0]["strength"] == 0.5


def test_several_files_are_baked_at_once(
    pair: tuple[Path, Path], bases: dict[str, Path], tmp_path: Path
) -> None:
    one, two = pair
    out = tmp_path / "baked"
    command = ["merge", f"{one}:0.8", f"{two}:0.4", "--into", str(bases["sd"]), "-o", str(out)]
    assert main(command) == 0
    parts = loaded(bases["sd"])
    both = output_of(SD, parts, (one, KOHYA, 0.8), (two, KOHYA, 0.4))
    assert_same_effect(output_of(SD, parts.with_denoiser(loaded(out).denoiser)), both, output_of(SD, parts))
    assert main(command) == 64
    assert main([*command, "--force"]) == 0
    assert main([*command[:-1], str(bases["sd"]), "--force"]) == 64
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".tmp")] == []


def test_base_model_that_cannot_be_one_is_told(
    pair: tuple[Path, Path], bases: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = tmp_path / "odd"
    odd.mkdir()
    (odd / "model_index.json").write_text("[1]")
    for base, code, told in (
        (tmp_path / "gone", 64, f"error (base_model_missing): there is no folder {tmp_path / 'gone'}"),
        (pair[0], 64, "error (base_model_missing)"),
        (odd, 64, "error (base_model_config): model_index.json of the base model names no components"),
        (
            bases["wan"],
            64,
            "error (layout_unsupported): a.safetensors has names of the layout 'kohya', in which Wan",
        ),
        (bases["flux"], 65, "Give the base model that it was trained on."),
    ):
        assert main(["merge", str(pair[0]), "--into", str(base), "-o", str(tmp_path / "baked")]) == code
        assert told in capsys.readouterr().err
    assert not (tmp_path / "baked").exists()


def test_base_model_of_two_denoisers_is_neither_baked_into_nor_extracted_from(tmp_path: Path) -> None:
    family = load_family("wan")
    base, out = tmp_path / "base", tmp_path / "out.safetensors"
    family.save(family.tiny("14b"), base)  # type: ignore[call-arg]
    file = write_sample(tmp_path / "a.safetensors", family, table_of(family, "peft"))
    with pytest.raises(ConfigurationError, match="a second denoiser, 'transformer_2'") as baked:
        bake([(file, 1.0)], base, tmp_path / "baked")
    with pytest.raises(ConfigurationError) as extracted:
        extract(base, base, out, rank=2)
    assert (baked.value.code, extracted.value.code) == ("several_denoisers", "several_denoisers")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "base"]


def test_folder_that_holds_the_base_model_is_never_replaced(
    pair: tuple[Path, Path], bases: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(bases["sd"], tmp_path / "models" / "sd")
    shutil.copy(bases["sd"] / "model_index.json", tmp_path / "models")
    with pytest.raises(ConfigurationError, match="is there already"):
        bake([(pair[0], 1.0)], tmp_path / "models" / "sd", tmp_path / "models", force=True)
    assert (tmp_path / "models" / "sd" / "unet").is_dir()


def test_variants_are_baked_too_and_other_weights_left_out(
    pair: tuple[Path, Path], bases: dict[str, Path], tmp_path: Path
) -> None:
    base = tmp_path / "base"
    shutil.copytree(bases["sd"], base)
    file = base / "unet" / "diffusion_pytorch_model.safetensors"
    half = {key: tensor.half() for key, tensor in load_file(file).items()}
    save_file(half, base / "unet" / "diffusion_pytorch_model.fp16.safetensors")
    (base / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"old")
    done = bake([(pair[0], 1.0)], base, tmp_path / "baked")
    assert list(done.left_out) == ["unet/diffusion_pytorch_model.bin"]
    new = tmp_path / "baked" / "unet"
    one, two = load_file(new / file.name), load_file(new / "diffusion_pytorch_model.fp16.safetensors")
    key = "mid_block.resnets.0.conv1.weight"
    assert (two[key].dtype, half[key].equal(two[key])) == (torch.float16, False)
    assert torch.allclose(one[key], two[key].float(), atol=2e-3)


def tuned_model(tmp_path: Path, name: str, file: Path, bases: dict[str, Path]) -> Path:
    bake([(file, 1.0)], bases[name], tmp_path / "tuned")
    return tmp_path / "tuned"


@pytest.mark.parametrize("name", ["sd", "flux", "lumina2"])
def test_extracted_file_brings_the_tuned_model_back(
    name: str, bases: dict[str, Path], tmp_path: Path
) -> None:
    family = load_family(name)
    table = next(iter(family.exports.values()))
    file = write_sample(tmp_path / "a.safetensors", family, table, rank=2, alpha=4.0)
    tuned = tuned_model(tmp_path, name, file, bases)
    out = tmp_path / "b.safetensors"
    done = extract(bases[name], tuned, out, rank=2, dtype="fp32")
    assert done.kept > 0.9999
    assert done.left_out == {}
    parts = loaded(bases[name], name)
    new = output_of(family, parts.with_denoiser(loaded(tuned, name).denoiser))
    assert_same_effect(output_of(family, parts, (out, table, 1.0)), new, output_of(family, parts))
    about = read_metadata(out)
    assert about["ss_base_model_version"] == family.metadata(parts)["ss_base_model_version"]
    assert about["ss_network_dim"] in {"2", "Dynamic"}


def test_extract_tells_what_a_lora_cannot_hold(
    pair: tuple[Path, Path], bases: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tuned = tuned_model(tmp_path, "sd", pair[0], bases)
    file = tuned / "unet" / "diffusion_pytorch_model.safetensors"
    content = load_file(file)
    content["conv_norm_out.weight"][0] += 2
    save_file(content, file, {"format": "pt"})
    out = tmp_path / "c.safetensors"
    assert (
        main(["extract", "--base", str(bases["sd"]), "--tuned", str(tuned), "--rank", "1", "-o", str(out)])
        == 0
    )
    told = capsys.readouterr().out
    assert "91 modules differ" in told
    assert "differs too, but is not in the file: denoiser.conv_norm_out.weight (norm 2)" in told
    assert {change.rank for change in read_factors(out).values()} == {1}


def test_equal_models_and_other_architectures_have_no_difference(
    bases: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "b.safetensors"
    with pytest.raises(DataError) as equal:
        extract(bases["sd"], bases["sd"], out, rank=2)
    with pytest.raises(ConfigurationError) as other:
        extract(bases["sd"], bases["sdxl"], out, rank=2)
    assert (equal.value.code, other.value.code) == ("models_equal", "wrong_family")
    assert not out.exists()
