"""Textual inversion: only the rows of a new word are trained, and other programs read them to the same text."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from training.engine.cli import main
from training.engine.errors import ConfigurationError
from training.engine.export.factors import VerificationError
from training.engine.export.weights_file import read_metadata
from training.engine.export.words import read_word, verify_reading, word_shapes
from training.engine.families.base import ModelFamily, Parts, TextRow
from training.engine.generate import Generator
from training.engine.generation import GenerationSpec
from training.engine.registry import load_family, load_method
from training.engine.spec import validate
from training.engine.words import NewWord, known_word

from .conformance import inputs_of
from .conftest import CPU, Build, Recorder, assert_equal, make_spec, recorded, weights

ENCODERS = {"sd": ["text_encoder"], "sdxl": ["text_encoder", "text_encoder_2"]}
WORD: dict[str, Any] = {"type": "textual_inversion"}


def attached(name: str, pictures: Path, **method: Any) -> tuple[ModelFamily, Parts, Any]:
    family = load_family(name)
    parts = family.tiny()
    spec = make_spec(Path(name), pictures, method={**WORD, **method})
    return family, parts, load_method("textual_inversion").attach(family, parts, spec)


def shake(adapter: Any) -> None:
    state = adapter.state_dict()
    generator = torch.Generator().manual_seed(0)
    adapter.load_state_dict(
        {n: t + 0.3 * torch.randn(t.shape, generator=generator) for n, t in state.items()}
    )


def read(family: ModelFamily, parts: Parts, prompt: str = "a plate of inky, plain") -> TextRow:
    with torch.no_grad():
        (row,) = family.encode_text(parts, [prompt])
    return row


# -- what is trained ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sd", "sdxl"])
def test_word_that_begins_as_itself_changes_nothing_and_switched_off_it_is_the_base(
    name: str, pictures: Path
) -> None:
    before = read(load_family(name), load_family(name).tiny())
    family, parts, adapter = attached(name, pictures)
    assert adapter.modules == len(ENCODERS[name])
    assert_equal(before, read(family, parts))
    shake(adapter)
    assert not torch.allclose(before["hidden"], read(family, parts)["hidden"], atol=1e-3)
    with adapter.disabled():
        assert_equal(before, read(family, parts))
    assert not torch.allclose(before["hidden"], read(family, parts)["hidden"], atol=1e-3)
    adapter.initialise(7)
    assert_equal(before, read(family, parts))
    shake(adapter)
    adapter.detach()
    assert_equal(before, read(family, parts))
    assert type(parts.components["tokenizer"]).__module__.startswith("transformers")


@pytest.mark.parametrize("name", ["sd", "sdxl"])
def test_only_the_rows_of_the_word_are_trained_in_fp32(name: str, build: Build) -> None:
    trainer = build(name, method={**WORD, "vectors": 3})
    trainer.computer.backward(0, 4)
    trained = {id(p) for p in trainer.optimizer.parameters}
    for model in trainer.parts.adaptable.values():
        for parameter in model.parameters():
            assert parameter.requires_grad == (id(parameter) in trained)
    own = {n: p for group in trainer.adapter.groups() for n, p in group.parameters}
    assert {n: (tuple(p.shape), p.dtype) for n, p in own.items()} == {
        f"{encoder}.vectors": ((3, 16), torch.float32) for encoder in ENCODERS[name]
    }
    assert all(bool(p.grad.any(dim=1).all()) for p in own.values() if p.grad is not None)
    assert recorded(trainer).of("plan")[0].trainable_parameters == 48 * len(own)


def test_rows_begin_as_those_of_the_initial_words(pictures: Path) -> None:
    family, parts, adapter = attached("sd", pictures, initial_words="ab", vectors=5)
    plain = family.tiny().components["tokenizer"]("ab", add_special_tokens=False).input_ids
    table = parts.components["text_encoder"].get_input_embeddings().weight
    assert torch.equal(adapter.rows()["text_encoder"], table[[plain[i] for i in (0, 0, 0, 1, 1)]])


def test_other_texts_are_read_as_before(pictures: Path) -> None:
    before = read(load_family("sdxl"), load_family("sdxl").tiny(), "a red cat, inkyness")
    family, parts, adapter = attached("sdxl", pictures, vectors=2)
    shake(adapter)
    assert_equal(before, read(family, parts, "a red cat, inkyness"))
    assert_equal(read(family, parts, "so INKY!"), read(family, parts, "so inky!"))


def test_pooled_text_is_that_of_the_end_although_the_word_has_a_larger_number(pictures: Path) -> None:
    family = load_family("sdxl")
    parts = family.tiny()
    encoder = parts.components["text_encoder_2"]
    model = next(module for module in encoder.modules() if hasattr(module, "eos_token_id"))
    model.eos_token_id = (
        2  # as in the released configurations, whose models take the largest number for the end
    )
    before = read(family, parts, "a cat")
    rows = {name: torch.zeros(2, 16) for name in ENCODERS["sdxl"]}
    with known_word(parts, "inky", rows):
        assert_equal(before, read(family, parts, "a cat"))
        long, short = (read(family, parts, text)["pooled"] for text in ("inky cat", "inky"))
        assert not torch.allclose(long, short, atol=1e-4)
    assert model.eos_token_id == 2


# -- whole runs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sd", "sdxl"])
def test_resumed_run_ends_with_the_same_rows_and_micro_batches_add_up(
    name: str, build: Build, tmp_path: Path
) -> None:
    sections: dict[str, Any] = {
        "method": {**WORD, "vectors": 2}, "training": {"caption_dropout": 0.3, "flip": True, "warmup_steps": 2}
    }  # fmt: skip
    whole = build(name, run="whole", **sections)
    fresh = weights(whole)
    gradients = []
    for size in (4, 1):
        whole.optimizer.zero_grad()
        whole.computer.backward(1, size)
        gradients.append([p.grad.clone() for p in whole.optimizer.parameters if p.grad is not None])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*gradients, strict=True))
    whole.optimizer.zero_grad()
    whole.train()
    assert all(not torch.equal(fresh[key], tensor) for key, tensor in weights(whole).items())
    again = build(
        name, run="again", resume_from=tmp_path / "whole" / "checkpoints" / "step-00000003", **sections
    )
    again.train()
    assert_equal(weights(whole), weights(again))


def test_training_lowers_the_loss_on_pictures_kept_aside(build: Build) -> None:
    trainer = build(
        "sd", method={**WORD, "vectors": 4}, training={"steps": 60, "learning_rate": 5e-2, "held_out": 0.2},
        checkpoint={"every_steps": 1000},
    )  # fmt: skip
    trainer.train()
    held_out = recorded(trainer).curve("held_out_loss")
    assert held_out[60] < held_out[0]


def test_run_draws_with_and_without_the_word_and_measures(build: Build) -> None:
    trainer = build(
        "sd", method={**WORD, "vectors": 2}, training={"learning_rate": 1.0, "held_out": 0.2},
        sampling={"prompts": ["{trigger}, a cat", "a dog"], "every_steps": 6, "guidance": 1.0},
    )  # fmt: skip
    trainer.run()
    base, word = (
        {event.prompt_index: (trainer.run_dir / event.path).read_bytes() for event in recorded(trainer).of("sample")
         if event.lora == lora}
        for lora in (False, True)
    )  # fmt: skip
    assert base[0] != word[0]
    assert base[1] == word[1]
    assert set(recorded(trainer).of("evaluation")[0].held_out_loss) == {"base", "lora"}


# -- the file ----------------------------------------------------------------------------------------------------------


def trained(name: str, build: Build, **output: Any) -> tuple[Any, Path]:
    trainer = build(name, method={**WORD, "vectors": 3}, training={"learning_rate": 0.1}, output=output)
    trainer.train()
    return trainer, trainer.export_lora_weights()


@pytest.mark.parametrize("name", ["sd", "sdxl"])
def test_diffusers_reads_the_word_to_the_same_text(name: str, build: Build, bases: dict[str, Path]) -> None:
    trainer, path = trained(name, build)
    content = load_file(path)
    assert sorted(content) == {"sd": ["emb_params"], "sdxl": ["clip_g", "clip_l"]}[name]
    assert {(tuple(t.shape), t.dtype) for t in content.values()} == {((3, 16), torch.float32)}
    pipe: Any = getattr(diffusers, trainer.family.pipelines[0]).from_pretrained(
        bases[name], local_files_only=True, **({"safety_checker": None} if name == "sd" else {})
    )
    if name == "sd":
        pipe.load_textual_inversion(path, token="inky")
    else:
        pipe.load_textual_inversion(content["clip_l"], token="inky")
        pipe.load_textual_inversion(
            content["clip_g"], token="inky", text_encoder=pipe.text_encoder_2, tokenizer=pipe.tokenizer_2
        )
    prompt = "a plate of inky, plain"
    with torch.no_grad():
        theirs, _, *pooled = pipe.encode_prompt(
            prompt, device=CPU, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
    ours = read(trainer.family, trainer.parts, prompt)
    with trainer.adapter.disabled():
        base = read(trainer.family, trainer.parts, prompt)
    effect = float((ours["hidden"] - base["hidden"]).norm())
    assert effect > 0.1
    assert float((theirs[0] - ours["hidden"]).norm()) < 1e-5 * effect
    if name == "sdxl":
        assert torch.allclose(pooled[0][0], ours["pooled"], atol=1e-5)


def test_file_says_what_it_is(build: Build, capsys: pytest.CaptureFixture[str]) -> None:
    trainer, path = trained("sd", build, dtype="fp16")
    about = read_metadata(path)
    assert about["modelspec.architecture"] == "stable-diffusion-v1/textual-inversion"
    assert about["modelspec.trigger_phrase"] == "inky"
    assert "ss_network_module" not in about
    assert load_file(path)["emb_params"].dtype == torch.float16
    (event,) = recorded(trainer).of("export")
    assert (event.format, event.keys) == ("word", 1)
    assert main(["inspect", str(path)]) == 0
    assert re.search(r"^a word +emb_params 3 x 16$", capsys.readouterr().out, re.M)
    assert main(["inspect", str(path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["family"], told["word"], told["trigger_words"]) == ("sd", {"emb_params": [3, 16]}, ["inky"])
    assert told["hashes"] == {"sshs_model_hash": "matches", "modelspec.hash_sha256": "matches"}
    assert (told["sha256"], told["problems"]) == (hashlib.sha256(path.read_bytes()).hexdigest(), [])
    assert main(["resize", str(path), "--rank", "1", "-o", str(path.with_name("x.safetensors"))]) == 65
    assert "error (lora_is_word)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"emb_params": torch.full((2, 4), torch.nan)}, "holds values that are not finite"),
        ({"clip_l": torch.ones(2, 4), "clip_g": torch.ones(3, 4)}, "do not fit together"),
    ],
)
def test_inspect_tells_what_is_wrong_with_a_word(
    content: dict[str, Tensor], problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_file(content, tmp_path / "x.safetensors")
    assert main(["inspect", str(tmp_path / "x.safetensors")]) == 65
    assert problem in capsys.readouterr().out
    assert main(["inspect", str(tmp_path / "x.safetensors"), "--json"]) == 65
    assert problem in json.loads(capsys.readouterr().out)["problems"][0]


@pytest.mark.parametrize(
    ("damage", "code"),
    [("nan", "export_not_finite"), ("name", "export_key"), ("rows", "export_differs"), ("value", "export_differs"),
     ("first", "export_empty"), ("flat", "export_key"), ("cut", "export_unreadable")],
)  # fmt: skip
def test_broken_file_is_never_called_a_success(build: Build, damage: str, code: str) -> None:
    trainer, path = trained("sdxl", build)
    content = load_file(path)
    rows = content["clip_g"]
    if damage == "nan":
        rows[0, 0] = float("nan")
    elif damage == "name":
        content["clip_h"] = content.pop("clip_l")
    elif damage == "rows":
        content = {key: t[:2].clone() for key, t in content.items()}
    elif damage == "value":
        rows[1, 1] += 0.01
    elif damage == "flat":
        content["clip_g"] = rows[0].clone()
    elif damage == "first":
        trainer.adapter.initialise(0)
        content = trainer.file.tensors(torch.float32)
    save_file(content, path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(VerificationError) as caught:
        trainer.file.read(path)
    assert caught.value.code == code


def test_effect_of_another_word_is_told(build: Build) -> None:
    trainer, path = trained("sd", build)
    wrong = {name: 1.5 * rows for name, rows in read_word(path, "sd").items()}
    with pytest.raises(VerificationError, match="effect is off"):
        verify_reading(wrong, trainer.family, trainer.parts, trainer.adapter.word, "a plate of inky")


def test_checkpoint_before_anything_was_learned_has_no_file(build: Build) -> None:
    trainer = build("sd", method=WORD)
    trainer.save(0)
    (event,) = recorded(trainer).of("checkpoint")
    assert event.export is None


# -- drawing with it ---------------------------------------------------------------------------------------------------


def draw(
    base: Path, folder: Path, mixes: list[list[dict[str, Any]]], prompt: str, family: str = "sd"
) -> list[bytes]:
    spec = GenerationSpec.from_dict({
        "base_model": {"path": str(base), "family": family}, "prompts": [prompt], "seed": 3, "steps": 2,
        "guidance": 1.0, "width": 32, "height": 32, "mixes": mixes,
    })  # fmt: skip
    generator = Generator(spec, run_dir=folder, sink=Recorder(), device=CPU)
    generator.run()
    return [path.read_bytes() for path in sorted(folder.rglob("*.png"))]


def test_pictures_are_drawn_with_a_word_as_strong_as_wanted(
    build: Build, bases: dict[str, Path], tmp_path: Path
) -> None:
    _, path = trained("sd", build)
    mixes: list[list[dict[str, Any]]] = [[], [{"file": str(path)}], [{"file": str(path), "strength": 0.5}]]
    plain, full, half = draw(bases["sd"], tmp_path / "a", mixes, "a plate of inky")
    assert len({plain, full, half}) == 3
    same = draw(bases["sd"], tmp_path / "b", mixes, "a plate")
    assert len(set(same)) == 1


def test_word_of_another_base_model_is_refused(build: Build, bases: dict[str, Path], tmp_path: Path) -> None:
    _, path = trained("sd", build)
    with pytest.raises(ConfigurationError) as caught:
        draw(bases["sdxl"], tmp_path / "a", [[{"file": str(path)}]], "inky", "sdxl")
    assert caught.value.code == "lora_of_another_base"
    save_file({"emb_params": torch.zeros(1, 24)}, path)
    with pytest.raises(ConfigurationError, match="its rows do not fit the text_encoder"):
        draw(bases["sd"], tmp_path / "b", [[{"file": str(path)}]], "inky")
    assert word_shapes(path) == {"emb_params": (1, 24)}
    assert word_shapes(tmp_path) == {}


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sections", "pointers"),
    [
        ({"trigger": ""}, ["/trigger"]),
        ({"captions": {"template": "{caption}"}}, ["/captions/template"]),
        ({"method": {**WORD, "text_encoder": True}}, ["/method/text_encoder"]),
        ({"method": {**WORD, "vectors": 33}}, ["/method/vectors"]),
    ],
)
def test_recipe_that_could_not_teach_a_word_is_refused(sections: dict[str, Any], pointers: list[str]) -> None:
    plain = {
        "name": "x", "base_model": {"path": "b"}, "dataset": {"folder": "p"}, "trigger": "inky", "method": WORD
    }  # fmt: skip
    assert validate(plain) == []
    assert [error.pointer for error in validate({**plain, **sections})] == pointers


@pytest.mark.parametrize("word", ["two words", "a", "A", ""])
def test_word_that_cannot_be_told_from_others_is_refused(word: str) -> None:
    parts = load_family("sd").tiny()
    with pytest.raises(ConfigurationError) as caught:
        NewWord(parts, word, {"text_encoder": torch.zeros(1, 16)})
    assert caught.value.code == "word_taken"


def test_family_whose_words_no_program_reads_is_refused(pictures: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        attached("flux", pictures)
    assert (caught.value.code, caught.value.patch) == ("method_unsupported", {"/method/type": "lora"})
    family, parts, _ = attached("sd", pictures)
    assert inputs_of(family, parts)[2]["hidden"].shape == (2, 24, 16)
