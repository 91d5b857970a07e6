"""The file that leaves: names, numbers, what it says of itself, and that a broken one is caught."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from training.engine.export import verify
from training.engine.export.factors import VerificationError, tensors
from training.engine.export.weights_file import file_stem, read_metadata, write
from training.engine.families.sd import StableDiffusion

from .conftest import Build, recorded

# Names are facts: made once from the layout that A1111 and ComfyUI read (sd-scripts networks/lora.py).
KNOWN_STEMS = {
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q",
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_out_0",
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_ff_net_0_proj",
    "lora_unet_down_blocks_0_attentions_0_proj_in",
    "lora_unet_down_blocks_0_resnets_0_conv1",
    "lora_unet_down_blocks_0_downsamplers_0_conv",
    "lora_unet_mid_block_resnets_1_time_emb_proj",
    "lora_unet_up_blocks_0_upsamplers_0_conv",
    "lora_te_text_model_encoder_layers_0_self_attn_q_proj",
    "lora_te_text_model_encoder_layers_1_mlp_fc2",
}


def trained(build: Build, **sections: Any) -> Any:
    sections.setdefault("method", {"targets": "all", "text_encoder": True})
    trainer = build(run="a", **sections)
    trainer.train()
    return trainer


def test_names_are_those_the_programs_read(build: Build) -> None:
    content = tensors(StableDiffusion().exports["kohya"], trained(build).adapter, torch.float32)
    stems = {key.partition(".")[0] for key in content}
    assert stems >= KNOWN_STEMS
    assert {key.partition(".")[2] for key in content} == {"lora_down.weight", "lora_up.weight", "alpha"}
    down = content["lora_unet_down_blocks_0_resnets_0_conv1.lora_down.weight"]
    up = content["lora_unet_down_blocks_0_resnets_0_conv1.lora_up.weight"]
    assert (tuple(down.shape), tuple(up.shape)) == ((4, 16, 3, 3), (16, 4, 1, 1))
    assert {float(t) for key, t in content.items() if key.endswith(".alpha")} == {2.0}


@pytest.mark.parametrize("alpha", [1.0, 4.0, 12.5])
def test_diffusers_reads_the_file_and_gets_the_same_pictures(
    build: Build, bases: dict[str, Path], alpha: float
) -> None:
    trainer = trained(
        build, method={"targets": "all", "alpha": alpha, "text_encoder": True}, output={"dtype": "fp32"},
        training={"learning_rate": 3e-2},
    )  # fmt: skip
    path = trainer.export_lora_weights()
    pipe = StableDiffusionPipeline.from_pretrained(bases["sd"], safety_checker=None, local_files_only=True)
    pipe.load_lora_weights(path)
    noised = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([100, 800])
    tokens = pipe.tokenizer(["a cat", "a dog"], padding="max_length", return_tensors="pt").input_ids
    with torch.no_grad():
        text = pipe.text_encoder(tokens).last_hidden_state
        theirs = pipe.unet(noised, t, text).sample
        rows = trainer.family.collate_text(trainer.text_rows(["a cat", "a dog"]))
        ours = trainer.family.forward(trainer.parts, noised, t, rows)
        with trainer.adapter.disabled():
            rows = trainer.family.collate_text(trainer.text_rows(["a cat", "a dog"]))
            base = trainer.family.forward(trainer.parts, noised, t, rows)
    effect = float((ours - base).norm())
    assert effect > 0.1 * float(base.norm())
    assert float((theirs - ours).norm()) < 1e-5 * effect


def test_metadata_tells_how_it_was_made_and_nothing_private(build: Build) -> None:
    trainer = trained(build, output={"author": "Ada", "license": "CC0-1.0"})
    path = trainer.export_lora_weights()
    about = read_metadata(path)
    assert about["ss_network_module"] == "networks.lora"
    assert (about["ss_network_dim"], about["ss_network_alpha"], about["ss_v2"]) == ("4", "2.0", "False")
    assert (about["ss_steps"], about["ss_epoch"], about["ss_num_train_images"]) == ("6", "2", "10")
    assert about["modelspec.sai_model_spec"] == "1.0.1"
    assert about["modelspec.architecture"] == "stable-diffusion-v1/lora"
    assert about["modelspec.trigger_phrase"] == "inky"
    assert about["modelspec.author"] == "Ada"
    assert about["lora_foundry.recipe_sha256"] == trainer.spec.recipe_sha256()
    assert about["lora_foundry.base_sha256"] == trainer.base_sha256
    assert "plate" not in json.dumps(about)
    assert str(trainer.run_dir) not in json.dumps(about)


def test_metadata_names_the_optimizer_and_the_rates_of_the_recipe(build: Build) -> None:
    trainer = trained(build, training={"optimizer": "lion", "learning_rate": 1e-4})
    about = read_metadata(trainer.export_lora_weights())
    assert (about["ss_optimizer"], about["ss_unet_lr"], about["ss_text_encoder_lr"]) == (
        "lion",
        "0.0001",
        "5e-05",
    )
    assert {group.learning_rate for group in trainer.adapter.groups()} == {1e-4, 5e-5}


def test_tag_counts_are_written_only_on_request(build: Build) -> None:
    about = read_metadata(trained(build, output={"include_tag_frequencies": True}).export_lora_weights())
    assert json.loads(about["ss_tag_frequency"])["tiny"]["plain"] == 10


def test_hash_of_the_weights_does_not_depend_on_what_is_said_about_them(tmp_path: Path) -> None:
    content = {"a.alpha": torch.ones(()), "a.lora_up.weight": torch.rand(3, 2)}
    write(tmp_path / "1.safetensors", content, {"ss_output_name": "one"})
    digest = write(tmp_path / "2.safetensors", content, {"ss_output_name": "another name"})
    one, two = (read_metadata(tmp_path / f"{n}.safetensors") for n in "12")
    assert one["sshs_model_hash"] == two["sshs_model_hash"]
    assert one["modelspec.hash_sha256"] == "0x" + one["sshs_model_hash"]
    assert digest == hashlib.sha256((tmp_path / "2.safetensors").read_bytes()).hexdigest()


def test_each_checkpoint_has_its_file_and_its_hash(build: Build) -> None:
    trainer = trained(build)
    for event in recorded(trainer).of("checkpoint"):
        file = trainer.run_dir / event.export
        assert file.name == f"tiny-step{event.step:08d}.safetensors"
        assert event.export_sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
        assert event.export_bytes == file.stat().st_size


@pytest.mark.parametrize(
    ("damage", "code"),
    [("rename", "export_key"), ("nan", "export_not_finite"), ("zero", "export_empty"), ("scale", "export_differs"),
     ("drop", "export_key"), ("part", "export_key"), ("cut", "export_unreadable")],
)  # fmt: skip
def test_broken_file_is_never_called_a_success(build: Build, damage: str, code: str) -> None:
    trainer = trained(build)
    path, _, _, _ = trainer._write_export("x", 6)
    content = load_file(path)
    stem = "lora_unet_mid_block_resnets_0_conv1"
    if damage == "rename":
        content = {key.replace("mid_block", "middle"): t for key, t in content.items()}
    elif damage == "nan":
        content[f"{stem}.lora_up.weight"][0] = float("nan")
    elif damage == "zero":
        content = {key: torch.zeros_like(t) if "lora_up" in key else t for key, t in content.items()}
    elif damage == "scale":
        content[f"{stem}.alpha"] *= 2
    elif damage == "drop":
        content = {key: t for key, t in content.items() if not key.startswith(stem)}
    elif damage == "part":
        del content[f"{stem}.alpha"]
    save_file(content, path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(VerificationError) as caught:
        verify.verify_file(path, trainer.table, trainer.parts, trainer.adapter)
    assert caught.value.code == code


def test_effect_on_a_fresh_model_is_compared(build: Build) -> None:
    trainer = trained(build, training={"learning_rate": 3e-2})
    _, _, factors, _ = trainer._write_export("x", 6)
    text = trainer.text_rows(["a cat"])[0]
    wrong = {stem: change.times(2.0) for stem, change in factors.items()}
    with pytest.raises(VerificationError, match="effect is off"):
        verify.verify_effect(
            wrong, trainer.family, trainer.table, trainer.parts, trainer.adapter, text, "fp32"
        )


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("My Style", "My-Style"),
        ("../../etc/passwd", "etc-passwd"),
        ("墨风", "墨风"),
        ("///", "lora"),
        ("a" * 300, "a" * 120),
    ],
)
def test_file_names_are_safe(name: str, stem: str) -> None:
    assert file_stem(name) == stem
