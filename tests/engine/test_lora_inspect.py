"""Reading LoRA files: junk is told as such, families are known by what files say, and inspect tells all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from training.engine.cli import main
from training.engine.errors import ConfigurationError
from training.engine.export.weights_file import read_metadata
from training.engine.lora_files import inspection, reading
from training.engine.lora_files.architecture import of_base
from training.engine.registry import load_family

from .lora_samples import table_of, write_sample


@pytest.mark.parametrize("junk", ["text", "empty", "cut", "checkpoint", "missing"])
def test_junk_is_an_error_that_says_so(junk: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.safetensors"
    if junk == "text":
        path.write_text("<html>not found</html>")
    elif junk == "empty":
        path.write_bytes(b"")
    elif junk == "cut":
        save_file({"lora_unet_a.alpha": torch.rand(64)}, path)
        path.write_bytes(path.read_bytes()[:-1])
    elif junk == "checkpoint":
        save_file({"model.diffusion_model.input_blocks.0.0.weight": torch.rand(2)}, path)
    for command in (
        ["convert", str(path), "--to", "peft", "-o", str(tmp_path / "y.safetensors")],
        ["resize", str(path), "--rank", "2", "-o", str(tmp_path / "y.safetensors")],
        ["merge", str(path), "-o", str(tmp_path / "y.safetensors")],
        ["inspect", str(path)],
    ):
        assert main(command) == 65
        told = capsys.readouterr()
        assert "error (lora_" in told.err or "problem: no program reads 'model.diffusion" in told.out
    assert not (tmp_path / "y.safetensors").exists()


ODD_SHAPES = {
    "rank 0": {"lora_up.weight": (32, 0, 1, 1), "lora_down.weight": (0, 32, 3, 3)},
    "another rank": {"lora_up.weight": (32, 7, 1, 1)},
    "a vector": {"lora_up.weight": (32,)},
    "a number": {"lora_down.weight": ()},
    "several alphas": {"alpha": (3,)},
    "no alpha in it": {"alpha": (0,)},
    "lengths of nothing": {"dora_scale": (5, 5)},
    "lengths in a row": {"dora_scale": (32,)},
}


@pytest.mark.parametrize("odd", ODD_SHAPES)
def test_factors_that_do_not_fit_each_other_are_told_by_name(
    odd: str, bases: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    family, stem = load_family("sd"), "lora_unet_mid_block_resnets_0_conv1"
    path, out = tmp_path / "x.safetensors", tmp_path / "y.safetensors"
    content = load_file(write_sample(path, family, table_of(family, "kohya"), metadata={}))
    save_file(
        content | {f"{stem}.{name}": torch.ones(shape) for name, shape in ODD_SHAPES[odd].items()}, path
    )
    base = ["--base", str(bases["sd"])]
    for command in (
        ["convert", str(path), "--to", "peft", "-o", str(out), *base],
        ["resize", str(path), "--rank", "2", "-o", str(out)],
        ["merge", str(path), "--rank", "2", "-o", str(out), *base],
        ["merge", str(path), "--into", str(bases["sd"]), "-o", str(tmp_path / "baked")],
    ):
        assert main(command) == 65
        told = capsys.readouterr().err
        assert f"error (lora_shape): x.safetensors: the factors of {stem!r} do not fit each other" in told
    assert main(["inspect", str(path), "--norms"]) == 65
    assert f"problem: x.safetensors: the factors of {stem!r} do not fit each other" in capsys.readouterr().out
    assert [each.name for each in tmp_path.iterdir()] == ["x.safetensors"]


def test_inspect_counts_what_the_other_commands_refuse_as_a_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = {"lora_A.weight": torch.ones(2, 4), "lora_B.weight": torch.ones(4, 2)}
    for stems, problem in (
        (["model.x"], "a name of no known layout, 'model.x'"),
        (["unet.x", "diffusion_model.x"], "names of several layouts: comfy, peft"),
    ):
        save_file(
            {f"{stem}.{end}": t.clone() for stem in stems for end, t in pair.items()},
            tmp_path / "x.safetensors",
        )
        assert main(["inspect", str(tmp_path / "x.safetensors")]) == 65
        assert f"problem: x.safetensors holds {problem}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "name", ["chroma", "flux", "flux2", "lumina2", "qwen-image", "sana", "sd", "sdxl", "wan", "z-image"]
)
def test_family_is_guessed_from_the_names(name: str, tmp_path: Path) -> None:
    family = load_family(name)
    tables = family.tables
    for number, table in enumerate(tables[:1] if name == "flux2" else tables):
        path = write_sample(tmp_path / f"{number}.safetensors", family, table, metadata={})
        told = inspection.inspect(path)
        assert (told.family, told.family_from) == ("flux" if name == "chroma" else name, "names")
        assert told.layout == table.layout


def test_every_family_is_known_by_what_its_files_say() -> None:
    from training.engine.registry import family_names

    for name in family_names():
        family = load_family(name)
        assert reading.family_by_metadata(family.metadata(family.tiny())) == name


def test_inspect_tells_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    family = load_family("sd")
    path = write_sample(tmp_path / "1.safetensors", family, table_of(family, "kohya"), rank=3, alpha=1.5, metadata={
        "modelspec.trigger_phrase": "inky", "ss_base_model_version": "sd_v1",
        "ss_tag_frequency": json.dumps({"a": {"plain": 10, "blue ": 20}}),
    })  # fmt: skip
    assert main(["inspect", str(path), "--json", "--norms"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["layout"], told["family"], told["family_from"]) == ("kohya", "sd", "metadata")
    assert told["parts"]["denoiser"] == {
        "modules": 79,
        "ranks": {"3": 79},
        "alphas": {"1.5": 79},
        "methods": {"LoRA": 79},
    }
    assert told["parts"]["lora_te"]["modules"] == 12
    assert told["dtypes"] == {"F32": 273}
    assert told["trigger_words"] == ["inky", "blue", "plain"]
    assert told["hashes"] == {"sshs_model_hash": "matches", "modelspec.hash_sha256": "matches"}
    assert told["bytes"] == path.stat().st_size
    stem = "lora_unet_mid_block_resnets_0_conv1"
    content = load_file(path)
    product = (
        content[f"{stem}.lora_up.weight"].flatten(1) @ content[f"{stem}.lora_down.weight"].flatten(1) / 2
    )
    assert told["norms"][stem] == pytest.approx(float(product.norm()), rel=1e-5)


def test_inspect_finds_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    family = load_family("sd")
    path = write_sample(tmp_path / "1.safetensors", family, table_of(family, "kohya"))
    content, about = load_file(path), read_metadata(path)
    content["lora_unet_mid_block_resnets_0_conv1.lora_up.weight"][0] = float("nan")
    del content["lora_unet_mid_block_resnets_0_conv2.alpha"]
    content["extra"] = torch.zeros(1)
    save_file(content, path, about)
    assert main(["inspect", str(path)]) == 65
    told = capsys.readouterr().out
    assert "problem: no program reads 'extra'" in told
    assert (
        "problem: 'lora_unet_mid_block_resnets_0_conv1.lora_up.weight' holds values that are not finite"
        in told
    )
    assert "problem: 'lora_unet_mid_block_resnets_0_conv2' has no alpha" in told
    assert "problem: sshs_model_hash is not that of the tensors" in told


def test_base_model_of_another_family_is_refused(bases: dict[str, Path]) -> None:
    with pytest.raises(ConfigurationError, match="of the family sdxl") as caught:
        of_base(bases["sdxl"], "sd")
    assert caught.value.code == "wrong_family"
