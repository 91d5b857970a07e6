"""What is peculiar to one model family, beyond what every family must satisfy."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch

from training.engine.errors import ConfigurationError
from training.engine.families.chroma import Chroma
from training.engine.families.flux2 import Flux2, text_layers
from training.engine.families.qwen_image import QwenImage
from training.engine.families.sd3 import StableDiffusion3
from training.engine.registry import BUILT_IN, FAMILIES, load_family
from training.engine.sample import Artist

from .conformance import inputs_of
from .conftest import CPU
from .known_families import KNOWN
from .test_conformance import drawn_by_both

# -- Stable Diffusion 3 ----------------------------------------------------------------------------------------------


def test_sd3_without_t5_draws_what_diffusers_draws() -> None:
    family = StableDiffusion3()
    known = dataclasses.replace(KNOWN["sd3"], call={"guidance_scale": 1.0, "max_sequence_length": 256})
    ours, theirs = drawn_by_both(family, family.tiny(t5=False), known)
    assert float(ours.std()) > 1e-3
    assert torch.allclose(ours, theirs, atol=2e-5)


def test_sd3_saved_without_t5_is_loaded_without_it(tmp_path: Path) -> None:
    family = StableDiffusion3()
    tiny = family.tiny(t5=False)
    family.save(tiny, tmp_path)
    loaded = family.load(tmp_path, device=CPU, dtype=torch.float32)
    assert list(loaded.text_encoders) == ["text_encoder", "text_encoder_2"]
    assert "tokenizer_3" not in loaded.components
    with torch.no_grad():
        ours = family.forward(tiny, *inputs_of(family, tiny))
        assert torch.equal(ours, family.forward(loaded, *inputs_of(family, loaded)))


def test_sd3_whose_t5_was_lost_is_not_trained_without_it(bases: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "sd3"
    shutil.copytree(bases["sd3"], folder)
    shutil.rmtree(folder / "text_encoder_3")
    with pytest.raises(ConfigurationError, match="no 'text_encoder_3' folder") as caught:
        StableDiffusion3().load(folder, device=CPU, dtype=torch.float32)
    assert caught.value.code == "base_model_incomplete"


# -- Chroma ----------------------------------------------------------------------------------------------------------


def test_chroma_sees_the_text_and_one_filling_token() -> None:
    family = Chroma()
    parts = family.tiny()
    rows = family.encode_text(parts, ["", "a red cat", "more letters than the model reads"])
    # Letters, spaces and one in front, the end; then the filling token, if there is room.
    assert [len(row["hidden"]) for row in rows] == [2, 12, 24]
    batch = family.collate_text(rows)
    assert batch["mask"].sum(1).tolist() == [2, 12, 24]
    assert "mask" not in family.collate_text([rows[1], rows[1]]), (
        "nothing to mask: attention is faster without"
    )


def test_chroma_masks_in_blocks_that_are_computed_twice() -> None:
    family, gradients = Chroma(), []
    for twice in (False, True):
        parts = family.tiny()
        if twice:
            parts.denoiser.enable_gradient_checkpointing()  # type: ignore[operator]
        noised, t, text = inputs_of(family, parts)
        assert "mask" in text
        noised.requires_grad_()
        family.forward(parts, noised, t, text).square().sum().backward()
        gradients.append(noised.grad)
    assert gradients[0] is not None
    assert gradients[1] is not None
    assert torch.allclose(gradients[0], gradients[1], atol=1e-6)


# -- FLUX.2 ----------------------------------------------------------------------------------------------------------


def test_flux2_reads_the_layers_of_its_pipelines() -> None:
    assert text_layers(40) == (10, 20, 30), "Mistral Small, dev"
    assert text_layers(36) == (9, 18, 27), "Qwen 3 4B and 8B, klein"


def test_flux2_draws_with_a_shift_that_depends_on_the_steps() -> None:
    family = Flux2()
    parts = family.tiny()
    shape = (128, 64, 64)
    # The empirical line meets that of training at 200 steps (pipeline_flux2.py, compute_empirical_mu).
    assert family.drawing_shift(parts, shape, 200) == pytest.approx(family.shift(parts, shape), rel=1e-3)
    assert family.shift(parts, shape) == pytest.approx(3.158, rel=1e-3)
    assert family.drawing_shift(parts, shape, 50) == pytest.approx(7.55, rel=1e-2)


def test_flux2_takes_the_tokenizer_out_of_a_processor(bases: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "flux2"
    shutil.copytree(bases["flux2"], folder)
    index = json.loads((folder / "model_index.json").read_text())
    index["tokenizer"] = ["transformers", "PixtralProcessor"]
    (folder / "model_index.json").write_text(json.dumps(index))
    family = Flux2()
    loaded = family.load(folder, device=CPU, dtype=torch.float32)
    (ours,), (theirs,) = (family.encode_text(parts, ["a red cat"]) for parts in (family.tiny(), loaded))
    assert torch.equal(ours["hidden"], theirs["hidden"])


# -- Qwen-Image ------------------------------------------------------------------------------------------------------


def test_qwen_image_rows_hold_the_prompt_without_filling() -> None:
    family = QwenImage()
    parts = family.tiny()
    short, long = family.encode_text(parts, ["a red cat", "a red cat on a hill"])
    assert long["hidden"].shape[0] - short["hidden"].shape[0] == len(" on a hill")
    (alone,) = family.encode_text(parts, ["a red cat"])
    assert torch.allclose(alone["hidden"], short["hidden"], atol=1e-5)
    assert family.collate_text([short, long])["mask"].sum(1).tolist() == [
        len(short["hidden"]),
        len(long["hidden"]),
    ]


def test_qwen_image_draws_down_to_the_terminal_noise_level() -> None:
    family = QwenImage()
    parts = family.tiny()
    sigmas = family.sampler(parts, 4, (16, 64, 64)).sigmas.tolist()
    assert sigmas[0] == 1.0
    assert sigmas[-2:] == pytest.approx([0.02, 0.0], abs=1e-6)
    assert family.sampler(parts, 1, (16, 64, 64)).sigmas.tolist() == [1.0, 0.0]


# -- guidance that is told -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["flux", "flux2"])
def test_distilled_guidance_is_told_the_model_and_asks_it_once(name: str) -> None:
    family, pictures = load_family(name), {}
    for guidance in (1.0, 3.5):
        known = dataclasses.replace(KNOWN[name], call={**KNOWN[name].call, "guidance_scale": guidance})
        ours, theirs = drawn_by_both(family, family.tiny(), known, guidance=guidance)
        assert torch.allclose(ours, theirs, atol=2e-5)
        pictures[guidance] = ours
    assert not torch.allclose(pictures[1.0], pictures[3.5], atol=1e-4)


@pytest.mark.parametrize("name", ["flux", "flux2-klein", "sd3"])
def test_other_guidance_is_the_difference_to_the_negative_prompt(name: str) -> None:
    family = load_family(name)
    parts = family.tiny(guidance=False) if name == "flux" else family.tiny()  # type: ignore[call-arg]
    assert not family.is_told_guidance(parts)
    prompt, negative = family.encode_text(parts, ["a red cat", "a blue dog"])
    artist = Artist(family, parts, "fp32")
    one, other = (
        artist.pixels([prompt], text, seeds=[1], steps=2, guidance=3.5, width=32, height=32)
        for text in (negative, prompt)
    )
    assert not torch.allclose(one, other, atol=1e-4)


def test_every_family_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "trainer.md").read_text()
    table = text.split("## Base models\n", 1)[1].split("\nA **distilled**", 1)[0]
    assert [name for name in BUILT_IN[FAMILIES] if f"`{name}`" not in table] == []
