"""Converting LoRA files: the same numbers under other names, and nothing lost on the way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import FluxPipeline, StableDiffusionPipeline, StableDiffusionXLPipeline
from safetensors.torch import load_file, save_file
from torch import nn

from training.engine.cli import main
from training.engine.errors import ConfigurationError, DataError
from training.engine.export.weights_file import read_metadata
from training.engine.lora_files import reading
from training.engine.lora_files.architecture import PUBLISHED
from training.engine.lora_files.convert import convert
from training.engine.registry import load_family

from .conformance import inputs_of
from .lora_samples import assert_same_effect, output_of, table_of, write_sample

PAIRS = [
    ("sd", "kohya", "peft"),
    ("sdxl", "kohya", "peft"),
    ("flux", "peft", "kohya"),
    ("flux", "peft", "comfy"),
    ("lumina2", "comfy", "peft"),
    ("wan", "peft", "comfy"),
    ("flux2", "peft", "comfy"),
    ("z-image", "peft", "comfy"),
]


@pytest.mark.parametrize(("name", "one", "other"), PAIRS)
def test_there_and_back_is_the_same_bit_for_bit(
    name: str, one: str, other: str, bases: dict[str, Path], tmp_path: Path
) -> None:
    family = load_family(name)
    first = write_sample(tmp_path / "1.safetensors", family, table_of(family, one), rank=4, alpha=4.0)
    convert(first, other, tmp_path / "2.safetensors", base=bases[name])  # type: ignore[arg-type]
    convert(tmp_path / "2.safetensors", one, tmp_path / "3.safetensors", base=bases[name])  # type: ignore[arg-type]
    before, after = load_file(first), load_file(tmp_path / "3.safetensors")
    assert before.keys() == after.keys()
    # Fused entries of kohya's files have another rank than the rest but the same alpha: times 3 on the way there, by 3
    # on the way back, and each rounds by half of this (1.19e-7 was seen).
    allowed = torch.finfo(torch.float32).eps if (name, other) == ("flux", "kohya") else 0.0
    off = {key: float(((before[key] - after[key]).abs() / before[key].abs()).max()) for key in before}
    assert {key: value for key, value in off.items() if value > allowed} == {}
    assert load_file(tmp_path / "2.safetensors").keys() != before.keys()


@pytest.mark.parametrize(("name", "one", "other"), PAIRS)
def test_converted_file_does_the_same(
    name: str, one: str, other: str, bases: dict[str, Path], tmp_path: Path
) -> None:
    family = load_family(name)
    parts = family.tiny()
    first = write_sample(tmp_path / "1.safetensors", family, table_of(family, one), rank=3, alpha=50.0)
    convert(first, other, tmp_path / "2.safetensors", base=bases[name])  # type: ignore[arg-type]
    base = output_of(family, parts)
    before = output_of(family, parts, (first, table_of(family, one), 1.0))
    after = output_of(family, parts, (tmp_path / "2.safetensors", table_of(family, other), 1.0))
    assert_same_effect(before, after, base)


@pytest.mark.parametrize(
    ("name", "pipeline"), [("sd", StableDiffusionPipeline), ("sdxl", StableDiffusionXLPipeline)]
)
def test_diffusers_reads_a_converted_unet_file(
    name: str, pipeline: type, bases: dict[str, Path], tmp_path: Path
) -> None:
    family = load_family(name)
    first = write_sample(tmp_path / "1.safetensors", family, table_of(family, "kohya"), rank=3, alpha=1.5)
    convert(first, "peft", tmp_path / "2.safetensors", base=bases[name])
    options = {"safety_checker": None} if name == "sd" else {}
    pipe = pipeline.from_pretrained(bases[name], local_files_only=True, **options)  # type: ignore[attr-defined]
    pipe.load_lora_weights(tmp_path / "2.safetensors")
    parts = family.tiny()
    base = output_of(family, parts)
    ours = output_of(family, parts, (first, table_of(family, "kohya"), 1.0))
    noised, t, rows = inputs_of(family, parts)
    with torch.no_grad():
        theirs = family.forward(parts.with_denoiser(pipe.unet), noised, t, rows)
    assert_same_effect(ours, theirs, base)
    adapted = {name for name, _ in pipe.text_encoder.named_modules() if name.endswith("lora_A")}
    assert len(adapted) == 12


def test_diffusers_reads_the_fused_names_of_flux(bases: dict[str, Path], tmp_path: Path) -> None:
    family = load_family("flux")
    # Its reader has the widths of the full model's single blocks in it: those are left to the test of the names.
    first = write_sample(
        tmp_path / "1.safetensors", family, table_of(family, "peft"), alpha=100.0, only="attn.add_"
    )
    convert(first, "kohya", tmp_path / "2.safetensors", base=bases["flux"])
    assert list(load_file(tmp_path / "2.safetensors")) == [
        f"lora_unet_double_blocks_0_txt_attn_qkv.{end}"
        for end in ("alpha", "lora_down.weight", "lora_up.weight")
    ]
    pipe = FluxPipeline.from_pretrained(bases["flux"], local_files_only=True)
    pipe.load_lora_weights(tmp_path / "2.safetensors")
    parts = family.tiny()
    noised, t, rows = inputs_of(family, parts)
    with torch.no_grad():
        theirs = family.forward(parts.with_denoiser(pipe.transformer), noised, t, rows)
    ours = output_of(family, parts, (first, table_of(family, "peft"), 1.0))
    assert_same_effect(ours, theirs, output_of(family, parts))


def test_kohya_names_of_the_full_flux_are_those_that_diffusers_reads() -> None:
    name, settings = PUBLISHED["flux"][0]["denoiser"]
    import diffusers

    with torch.device("meta"):
        model: nn.Module = getattr(diffusers, name)(**settings)
    stems = table_of(load_family("flux"), "kohya").slots({"denoiser": model})
    double = [
        f"{side}_{layer}"
        for side in ("img", "txt")
        for layer in ("attn_qkv", "attn_proj", "mlp_0", "mlp_2", "mod_lin")
    ]
    expected = {f"lora_unet_double_blocks_{n}_{layer}" for n in range(19) for layer in double}
    expected |= {
        f"lora_unet_single_blocks_{n}_{x}"
        for n in range(38)
        for x in ("linear1", "linear2", "modulation_lin")
    }
    assert {stem for stem in stems if "blocks" in stem} == expected
    fused = stems["lora_unet_single_blocks_7_linear1"]
    assert [(slot.module.split(".")[-1], slot.rows) for slot in fused] == [
        ("to_q", slice(0, 3072)), ("to_k", slice(3072, 6144)), ("to_v", slice(6144, 9216)),
        ("proj_mlp", slice(9216, 21504)),
    ]  # fmt: skip


def test_layers_that_share_their_down_factor_stay_one(bases: dict[str, Path], tmp_path: Path) -> None:
    """A file that was trained fused comes back with its own rank, not three times that."""
    stem, generator = "lora_unet_double_blocks_0_img_attn_qkv", torch.Generator().manual_seed(0)
    content = {
        f"{stem}.lora_down.weight": torch.randn(2, 32, generator=generator),
        f"{stem}.lora_up.weight": torch.randn(96, 2, generator=generator), f"{stem}.alpha": torch.tensor(2.0),
    }  # fmt: skip
    save_file(content, tmp_path / "1.safetensors")
    convert(tmp_path / "1.safetensors", "peft", tmp_path / "2.safetensors", base=bases["flux"])
    split = load_file(tmp_path / "2.safetensors")
    assert torch.equal(
        split["transformer.transformer_blocks.0.attn.to_k.lora_B.weight"],
        content[f"{stem}.lora_up.weight"][32:64],
    )
    convert(tmp_path / "2.safetensors", "kohya", tmp_path / "3.safetensors", base=bases["flux"])
    after = load_file(tmp_path / "3.safetensors")
    assert {key: tensor.tolist() for key, tensor in after.items()} == {
        k: t.tolist() for k, t in content.items()
    }


def test_unchanged_layers_of_a_fused_one_leave_and_come_back_as_nothing(
    bases: dict[str, Path], tmp_path: Path
) -> None:
    family = load_family("flux")
    first = write_sample(tmp_path / "1.safetensors", family, table_of(family, "peft"), only="attn.to_v")
    convert(first, "kohya", tmp_path / "2.safetensors", base=bases["flux"])
    fused = load_file(tmp_path / "2.safetensors")
    assert fused["lora_unet_single_blocks_0_linear1.lora_up.weight"].shape == (32 * 3 + 128, 3)
    done = convert(tmp_path / "2.safetensors", "peft", tmp_path / "3.safetensors", base=bases["flux"])
    assert (done.before, done.after, done.silent) == (2, 2, 5)
    before, after = load_file(first), load_file(tmp_path / "3.safetensors")
    assert all(torch.equal(before[key], after[key]) for key in before.keys() | after.keys())


def test_without_a_base_model_published_shapes_are_taken(tmp_path: Path) -> None:
    stem = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k"
    content = {
        f"{stem}.lora_down.weight": torch.rand(2, 2048), f"{stem}.lora_up.weight": torch.rand(640, 2),
        f"{stem}.alpha": torch.tensor(2.0),
    }  # fmt: skip
    save_file(content, tmp_path / "1.safetensors")
    convert(tmp_path / "1.safetensors", "peft", tmp_path / "2.safetensors")
    name = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
    assert load_file(tmp_path / "2.safetensors").keys() == {f"{name}.lora_A.weight", f"{name}.lora_B.weight"}
    content[f"{stem}.lora_down.weight"] = torch.rand(2, 2047)
    save_file(content, tmp_path / "1.safetensors")
    with pytest.raises(DataError, match=r"\(640, 2047\)") as caught:
        convert(tmp_path / "1.safetensors", "peft", tmp_path / "3.safetensors")
    assert caught.value.code == "lora_shape"


def test_without_a_base_model_plain_paths_are_enough(tmp_path: Path) -> None:
    family = load_family("wan")
    first = write_sample(tmp_path / "1.safetensors", family, table_of(family, "peft"))
    convert(first, "comfy", tmp_path / "2.safetensors")
    assert "diffusion_model.blocks.0.self_attn.q.lora_A.weight" in load_file(tmp_path / "2.safetensors")
    with pytest.raises(ConfigurationError, match="do not tell the layers") as caught:
        convert(tmp_path / "2.safetensors", "peft", tmp_path / "3.safetensors")
    assert caught.value.code == "base_model_needed"


def test_name_that_is_not_understood_is_named(bases: dict[str, Path], tmp_path: Path) -> None:
    family = load_family("sd")
    first = write_sample(tmp_path / "1.safetensors", family, table_of(family, "kohya"))
    content = load_file(first)
    save_file(
        {
            key.replace("mid_block_resnets_0_conv1", "mid_block_resnets_9_conv1"): t
            for key, t in content.items()
        },
        first,
    )
    with pytest.raises(DataError, match="mid_block_resnets_9_conv1") as caught:
        convert(first, "peft", tmp_path / "2.safetensors", base=bases["sd"])
    assert caught.value.code == "lora_key"
    assert not (tmp_path / "2.safetensors").exists()


def test_sdxl_file_with_flattened_diffusers_names_is_read(bases: dict[str, Path], tmp_path: Path) -> None:
    family = load_family("sdxl")
    parts, kohya = family.tiny(), table_of(family, "kohya")
    (flat,) = (table for table in family.conversions if table.layout == "kohya")
    first = write_sample(tmp_path / "1.safetensors", family, flat, rank=3, alpha=1.5)
    assert "lora_unet_down_blocks_0_resnets_0_conv1.alpha" in load_file(first)
    done = convert(first, "kohya", tmp_path / "2.safetensors", base=bases["sdxl"])
    assert (done.before, done.after) == (281, 281)
    content = load_file(tmp_path / "2.safetensors")
    assert "lora_unet_input_blocks_1_0_in_layers_2.alpha" in content
    assert not any("down_blocks" in key for key in content)
    before = output_of(family, parts, (first, flat, 1.0))
    assert torch.equal(before, output_of(family, parts, (tmp_path / "2.safetensors", kohya, 1.0)))
    assert not torch.equal(before, output_of(family, parts))


def test_alphas_of_zero_stay_without_effect(bases: dict[str, Path], tmp_path: Path) -> None:
    family = load_family("sdxl")
    parts, path = family.tiny(), tmp_path / "1.safetensors"
    (flat,) = (table for table in family.conversions if table.layout == "kohya")
    content = load_file(write_sample(path, family, flat, rank=3, alpha=1.5))
    alphas = [key for key in content if key.endswith(".alpha")]
    save_file(content | {key: torch.tensor(0.0) for key in alphas[50:]}, path)
    convert(path, "kohya", tmp_path / "2.safetensors", base=bases["sdxl"])
    after = output_of(family, parts, (tmp_path / "2.safetensors", table_of(family, "kohya"), 1.0))
    assert torch.equal(output_of(family, parts, (path, flat, 1.0)), after)
    assert not torch.equal(after, output_of(family, parts))
    save_file(content | {key: torch.tensor(0.0) for key in alphas}, path)
    with pytest.raises(DataError, match="changes nothing") as caught:
        reading.read(path)
    assert caught.value.code == "lora_empty"


def test_dora_goes_between_kohya_and_comfy_but_not_to_peft(bases: dict[str, Path], tmp_path: Path) -> None:
    family = load_family("flux")
    parts, kohya, comfy = family.tiny(), table_of(family, "kohya"), table_of(family, "comfy")
    # One layer that is not fused: others cannot be a DoRA in these layouts.
    first = write_sample(
        tmp_path / "1.safetensors", family, kohya, method="dora", only="attn.to_out.0", alpha=60.0
    )
    convert(first, "comfy", tmp_path / "2.safetensors", base=bases["flux"])
    assert "diffusion_model.double_blocks.0.img_attn.proj.dora_scale" in load_file(tmp_path / "2.safetensors")
    before = output_of(family, parts, (first, kohya, 1.0))
    assert_same_effect(
        before, output_of(family, parts, (tmp_path / "2.safetensors", comfy, 1.0)), output_of(family, parts)
    )
    with pytest.raises(
        ConfigurationError, match="is a DoRA, which the layout 'peft' holds otherwise"
    ) as caught:
        convert(first, "peft", tmp_path / "3.safetensors", base=bases["flux"])
    assert caught.value.code == "layout_unsupported"


@pytest.mark.parametrize("method", ["loha", "lokr"])
def test_other_methods_go_between_kohya_and_comfy_but_not_to_diffusers(
    method: str, bases: dict[str, Path], tmp_path: Path
) -> None:
    family = load_family("sd")
    first = write_sample(tmp_path / "1.safetensors", family, table_of(family, "kohya"), method=method)
    with pytest.raises(ConfigurationError) as caught:
        convert(first, "peft", tmp_path / "2.safetensors", base=bases["sd"])
    assert caught.value.code == "layout_unsupported"
    assert "lora-train merge" in str(caught.value.hint)


def test_command_refuses_to_write_over_a_file(
    bases: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    family = load_family("sd")
    first = write_sample(tmp_path / "1.safetensors", family, table_of(family, "kohya"), metadata={
        "modelspec.trigger_phrase": "inky", "sshs_legacy_hash": "12345678", "ss_base_model_version": "sd_v1",
    })  # fmt: skip
    out = tmp_path / "2.safetensors"
    out.write_text("mine")
    command = ["convert", str(first), "--to", "peft", "-o", str(out), "--base", str(bases["sd"])]
    assert main(command) == 64
    assert "error (output_exists)" in capsys.readouterr().err
    assert out.read_text() == "mine"
    assert main([*command, "--force", "--dtype", "bf16"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(out)
    about = read_metadata(out)
    assert about["modelspec.trigger_phrase"] == "inky"
    assert "sshs_legacy_hash" not in about
    assert json.loads(about["lora_foundry.made"])["operation"] == "convert from kohya to peft"
    assert {tensor.dtype for tensor in load_file(out).values()} == {torch.bfloat16}
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
