"""Pictures drawn with finished LoRAs: the same as the live adapter draws, at any strength, one or several together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.engine.conftest import CPU, Build, Recorder
from training.engine import child
from training.engine.api import LoRATrainer
from training.engine.control import Control
from training.engine.errors import ConfigurationError, DataError, ExitCode, Interrupted
from training.engine.generate import Generator
from training.engine.generation import GenerationSpec
from training.engine.lora_files.convert import convert
from training.engine.parsing import SpecError


def order(base: Path, **values: Any) -> GenerationSpec:
    data = {
        "base_model": {"path": str(base), "family": base.name},
        "prompts": ["plate 1, plain", "plate 2, plain"],
        "width": 32,
        "height": 32,
        "steps": 3,
        "guidance": 2.0,
        **values,
    }
    return GenerationSpec.from_dict(data)


def drawn(spec: GenerationSpec, folder: Path, **more: Any) -> tuple[dict[int, np.ndarray], Recorder]:
    recorder = Recorder()
    Generator(spec, run_dir=folder, sink=recorder, device=CPU, **more).run()
    return {
        each.prompt_index: np.asarray(Image.open(folder / each.path), dtype=np.int16)
        for each in recorder.of("sample")
    }, recorder


@pytest.fixture
def taught(build: Build) -> LoRATrainer:
    """A short training of both parts whose effect is large enough to be seen."""
    trainer = build(
        method={"targets": "all", "text_encoder": True},
        training={"learning_rate": 0.02, "steps": 4},
        output={"dtype": "fp32"},
    )
    trainer.train()
    return trainer


@pytest.fixture
def lora(taught: LoRATrainer) -> str:
    return str(taught.export_lora_weights())


def difference(one: np.ndarray, two: np.ndarray) -> float:
    return float(np.abs(one - two).mean())


def test_pictures_equal_what_the_trained_model_draws(
    taught: LoRATrainer, lora: str, bases: dict[str, Path], tmp_path: Path
) -> None:
    spec = order(bases["sd"], mixes=[[], [{"file": lora}], [{"file": lora, "strength": 0.0}]])

    pictures, recorder = drawn(spec, tmp_path / "drawn")

    rows = taught.text_rows([spec.negative, *spec.prompts])
    live = taught.artist.draw(
        rows[1:], rows[0], seeds=[42, 42], steps=3, guidance=2.0, width=32, height=32
    )  # fmt: skip
    assert sorted(pictures) == [0, 1, 2, 3, 4, 5]
    for number, image in enumerate(live):
        trained = np.asarray(image, dtype=np.int16)
        assert np.abs(pictures[2 + number] - trained).max() <= 1  # one step of rounding to 8 bits
        assert difference(pictures[number], trained) > 1.0  # the base model draws another one
        assert np.array_equal(pictures[4 + number], pictures[number])  # strength 0 is the base model
    assert [each.lora for each in recorder.of("sample")] == [False, False, True, True, True, True]
    assert recorder.of("done")[0].step == 6


def test_two_loras_act_together_and_opposite_strengths_cancel(
    lora: str, bases: dict[str, Path], tmp_path: Path
) -> None:
    both = [{"file": lora, "strength": 0.5}, {"file": lora, "strength": 0.5}]
    against = [{"file": lora, "strength": 1.0}, {"file": lora, "strength": -1.0}]
    spec = order(bases["sd"], prompts=["plate 1, plain"], mixes=[[], [{"file": lora}], both, against])

    pictures, _recorder = drawn(spec, tmp_path / "drawn")

    assert np.abs(pictures[2] - pictures[1]).max() <= 1
    assert np.abs(pictures[3] - pictures[0]).max() <= 1
    assert difference(pictures[1], pictures[0]) > 1.0


def test_each_seed_gives_its_own_picture_and_the_same_one_again(
    bases: dict[str, Path], tmp_path: Path
) -> None:
    pictures, _recorder = drawn(order(bases["sd"], count=3, seed=7), tmp_path / "one")
    again, recorder = drawn(order(bases["sd"], count=3, seed=7), tmp_path / "two")

    assert [each.seed for each in recorder.of("sample")] == [7, 8, 9, 7, 8, 9]
    assert all(np.array_equal(pictures[index], again[index]) for index in pictures)
    assert difference(pictures[0], pictures[1]) > 1.0


def test_what_an_earlier_attempt_left_is_not_drawn_again(bases: dict[str, Path], tmp_path: Path) -> None:
    pictures, recorder = drawn(order(bases["sd"], count=3), tmp_path / "one", drawn=[0, 4])

    assert sorted(pictures) == [1, 2, 3, 5]
    assert recorder.of("phase")[-1].done == recorder.of("phase")[-1].total == 18


def test_a_wish_ends_the_drawing(bases: dict[str, Path], tmp_path: Path) -> None:
    recorder, control = Recorder(), Control()
    control.request("preempt")

    with pytest.raises(Interrupted):
        Generator(order(bases["sd"]), run_dir=tmp_path, sink=recorder, control=control, device=CPU).run()

    assert recorder.of("interrupted")[0].reason == "preempt"
    assert recorder.of("sample") == []


def test_a_lora_of_another_base_is_refused_by_name(bases: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "foreign.safetensors"
    save_file(
        {
            "lora_unet_joint_blocks_0.lora_down.weight": torch.ones(2, 4),
            "lora_unet_joint_blocks_0.lora_up.weight": torch.ones(4, 2),
            "lora_unet_joint_blocks_0.alpha": torch.tensor(2.0),
        },
        path,
    )

    with pytest.raises(ConfigurationError) as caught:
        drawn(order(bases["sd"], mixes=[[{"file": str(path)}]]), tmp_path / "drawn")

    assert caught.value.code == "lora_of_another_base"
    assert "foreign.safetensors" in caught.value.message


def test_a_lora_in_any_layout_of_its_family_draws_the_same(
    lora: str, bases: dict[str, Path], tmp_path: Path
) -> None:
    other = tmp_path / "peft.safetensors"
    convert(Path(lora), "peft", other, base=bases["sd"])

    pictures, recorder = drawn(
        order(bases["sd"], mixes=[[{"file": lora}], [{"file": str(other)}], []]), tmp_path / "x"
    )

    assert np.abs(pictures[0] - pictures[2]).max() <= 1
    assert difference(pictures[0], pictures[4]) > 1.0
    assert recorder.of("log") == []


def test_a_lora_for_a_model_of_another_size_is_refused(
    lora: str, bases: dict[str, Path], tmp_path: Path
) -> None:
    stem = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    content = load_file(lora)
    save_file(content | {f"{stem}.lora_down.weight": torch.ones(4, 99)}, lora)

    with pytest.raises(
        ConfigurationError, match=rf"'{stem}' of the LoRA is for a layer of \(16, 99\)"
    ) as caught:
        drawn(order(bases["sd"], mixes=[[{"file": lora}]]), tmp_path / "x")

    assert caught.value.code == "lora_of_another_base"


def test_convolutions_of_one_pixel_may_be_matrices_in_a_file(
    lora: str, bases: dict[str, Path], tmp_path: Path
) -> None:
    content, other = load_file(lora), str(tmp_path / "matrices.safetensors")
    flat = {k: t.flatten(1) if t.ndim == 4 and "attentions_0_proj" in k else t for k, t in content.items()}
    assert sum(t.shape != content[k].shape for k, t in flat.items()) == 12
    save_file(flat, other)

    pictures, _ = drawn(order(bases["sd"], mixes=[[{"file": lora}], [{"file": other}]]), tmp_path / "x")

    assert np.array_equal(pictures[0], pictures[2])


def test_a_damaged_lora_is_the_files_fault(lora: str, bases: dict[str, Path], tmp_path: Path) -> None:
    Path(lora).write_bytes(Path(lora).read_bytes()[:-9])

    with pytest.raises(DataError, match="cannot be opened") as caught:
        drawn(order(bases["sd"], mixes=[[{"file": lora}]]), tmp_path / "x")

    assert (caught.value.code, caught.value.exit_code) == ("lora_unreadable", ExitCode.DATA)


@pytest.mark.parametrize(
    ("values", "pointer", "code"),
    [
        ({"prompts": []}, "/prompts", "missing"),
        ({"prompts": ["  "]}, "/prompts", "missing"),
        ({"width": 100}, "/width", "conflict"),
        ({"count": 17}, "/count", "out_of_range"),
        ({"count": 16, "mixes": [[]] * 16}, "/count", "conflict"),
        ({"mixes": []}, "/mixes", "out_of_range"),
        ({"mixes": "all"}, "/mixes", "wrong_type"),
        ({"mixes": [[{"strength": 1.0}]]}, "/mixes/0/0/file", "missing"),
        ({"mixes": [[{"file": "a", "strength": 9}]]}, "/mixes/0/0/strength", "out_of_range"),
        ({"mixes": [[], [{"file": "a"}] * 9]}, "/mixes/1", "too_long"),
        ({"promts": ["a"]}, "/promts", "unknown_key"),
    ],
)
def test_a_wrong_order_names_its_place(
    values: dict[str, Any], pointer: str, code: str, tmp_path: Path
) -> None:
    with pytest.raises(SpecError) as caught:
        order(tmp_path / "sd", **values)

    assert (caught.value.pointer, caught.value.code) == (pointer, code)


def test_an_order_comes_back_as_it_was(tmp_path: Path) -> None:
    spec = order(tmp_path / "sd", mixes=[[], [{"file": "a.safetensors", "strength": 0.7}]])

    assert GenerationSpec.from_dict(spec.to_dict()) == spec
    assert [(p.index, p.mix, p.prompt, p.seed) for p in spec.pictures()] == [
        (0, 0, 0, 42),
        (1, 0, 1, 42),
        (2, 1, 0, 42),
        (3, 1, 1, 42),
    ]


def test_the_child_process_draws_an_order_and_tells_what_it_cannot(
    bases: dict[str, Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    spec = order(bases["sd"]).to_dict()
    (run / "run.json").write_text(json.dumps({"kind": "generation", "spec": spec, "drawn": [0]}))
    (tmp_path / "odd.json").write_text(json.dumps({"kind": "juggling", "spec": spec}))

    assert child.run(run / "run.json", run) == ExitCode.DONE
    assert child.run(tmp_path / "odd.json", tmp_path / "odd") == ExitCode.CONFIGURATION

    told = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    assert [each["prompt_index"] for each in told if each["type"] == "sample"] == [1]
    assert told[-1]["type"] == "done"
    odd = [json.loads(line) for line in (tmp_path / "odd" / "events.jsonl").read_text().splitlines()]
    assert odd[-1]["code"] == "unknown_kind"
