"""Prior preservation: pictures of the class that the base model draws, and the base model itself as their teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from training.engine import foundation
from training.engine.api import LoRATrainer
from training.engine.control import Control
from training.engine.device import autocast
from training.engine.errors import Interrupted
from training.engine.estimate import DEVICES, estimate
from training.engine.extras import is_installed
from training.engine.memory_plan import MemoryPlan
from training.engine.noise import sample_noise
from training.engine.registry import load_family
from training.engine.sample import Artist
from training.engine.spec import RunSpec, validate
from training.engine.step import Draw

from .conformance import assert_parts_add_up
from .conftest import CPU, Build, Recorder, assert_equal, make_spec, recorded, weights
from .test_methods import shake

PROMPT = "a photo of a plate"
DRAWN = {"prompt": PROMPT, "count": 5, "steps": 2, "guidance": 1.0}
TEACHER = {"prompt": PROMPT, "teacher": True}


def drawn_files(trainer: LoRATrainer) -> list[Path]:
    return sorted(trainer.cache_dir.glob("class/*/pictures/*"))


def of_the_class(trainer: LoRATrainer, steps: int = 6) -> list[Draw]:
    every = [draw for step in range(steps) for batch in trainer.computer.draws(step) for draw in batch]
    return [draw for draw in every if draw.picture.kind == "regularisation"]


def mixed_step(trainer: LoRATrainer) -> tuple[int, list[Draw]]:
    """Return the first step of one batch that has both kinds of samples."""
    for step in range(99):
        (batch,) = trainer.computer.draws(step)
        if len({draw.picture.kind for draw in batch}) == 2:
            return step, batch
    raise AssertionError("no batch has both")


# -- pictures that the base model draws --------------------------------------------------------------------------------


def test_base_model_draws_the_class_once_for_all_runs(build: Build, pictures: Path) -> None:
    first = build(run="a", prior=DRAWN, training={"epochs": 1, "steps": None})
    assert len(drawn_files(first)) == 5
    names = [event.phase for event in recorded(first).of("phase")]
    assert names.index("class_pictures") < names.index("fetch_data")
    assert {event.type for event in recorded(first).events} <= {"phase", "plan", "memory", "warning", "log"}
    mixed_in = first.dataset.regularisation
    assert [(p.item.caption, p.bucket) for p in mixed_in] == [(PROMPT, (32, 32))] * 5
    assert first.dataset.plan.total_steps == 5, "ten of the set and ten of the class, in buckets of 14 and 6"
    before = {path: path.stat().st_mtime_ns for path in drawn_files(first)}
    again = build(run="b", prior=DRAWN, training={"seed": 7})
    assert "class_pictures" not in [event.phase for event in recorded(again).of("phase")]
    assert {path: path.stat().st_mtime_ns for path in drawn_files(again)} == before
    build(run="c", prior={**DRAWN, "prompt": "a photo of a dog", "count": 2})
    build(run="d", prior={**DRAWN, "steps": 3, "count": 2})
    assert len(drawn_files(first)) == 9


def test_pictures_are_those_of_the_base_model_with_fixed_seeds(build: Build) -> None:
    trainer = build(prior={**DRAWN, "guidance": 3.0, "count": 2})
    family = load_family("sd")
    parts = family.tiny()
    prompt, negative = family.encode_text(parts, [PROMPT, ""])
    expected = Artist(family, parts, "fp32").draw(
        [prompt, prompt], negative, seeds=[0, 1], steps=2, guidance=3.0, width=32, height=32
    )
    for path, image in zip(drawn_files(trainer), expected, strict=True):
        with Image.open(path) as found:
            difference = np.abs(np.asarray(found, dtype=int) - np.asarray(image, dtype=int))
        assert difference.max() <= 1, "more than the rounding of a picture drawn on more threads"


def test_only_what_the_given_pictures_lack_is_drawn(build: Build, tmp_path: Path) -> None:
    folder = tmp_path / "class"
    folder.mkdir()
    for number in range(3):
        Image.new("RGB", (40, 40), (number, 90, 90)).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text("a plate of somebody else")
    trainer = build(prior=DRAWN, regularisation={"folder": str(folder)})
    assert len(drawn_files(trainer)) == 2
    captions = [picture.item.caption for picture in trainer.dataset.regularisation]
    assert sorted(captions) == [PROMPT] * 2 + ["a plate of somebody else"] * 3
    enough = build(run="b", prior={**DRAWN, "count": 3}, regularisation={"folder": str(folder)})
    assert len(drawn_files(enough)) == 2
    assert len(enough.dataset.regularisation) == 3


def test_drawing_that_was_interrupted_goes_on_where_it_ended(
    bases: dict[str, Path], pictures: Path, tmp_path: Path
) -> None:
    spec = make_spec(bases["sd"], pictures, prior={**DRAWN, "count": 9}, cache_dir=str(tmp_path / "cache"))

    class Stopping(Control):
        looks = 0

        def check(self) -> None:
            self.looks += 1
            if self.looks == 5:  # after the first four pictures, of two denoising steps each
                self.request("pause")
            super().check()

    sink = Recorder()
    trainer = LoRATrainer(spec, run_dir=tmp_path / "run", sink=sink, control=Stopping(), device=CPU)
    with pytest.raises(Interrupted):
        trainer.run()
    assert [event.reason for event in sink.of("interrupted")] == ["pause"]
    kept = {path: path.stat().st_mtime_ns for path in drawn_files(trainer)}
    assert len(kept) == 4
    trainer = LoRATrainer(spec, run_dir=tmp_path / "run", sink=Recorder(), device=CPU)
    trainer.prepare_data()
    assert len(drawn_files(trainer)) == 9
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


@pytest.mark.skipif(not is_installed("torchao"), reason="the extra gpu is missing")
def test_base_that_is_quantised_to_fit_draws_the_class_so(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds: list[str] = []
    settle = foundation.settle

    def settled(denoiser: nn.Module, plan: MemoryPlan, device: torch.device) -> None:
        kinds.append(plan.quantise)
        settle(denoiser, plan, device)

    monkeypatch.setattr(foundation, "settle", settled)
    sections: dict[str, Any] = {"base_model": {"quantise": "int8"}, "prior": {**DRAWN, "count": 2}}
    first = build("flux", run="a", **sections)
    assert kinds == ["int8", "int8"], "once to draw, once to train"
    assert len(drawn_files(first)) == 2
    whole = build("flux", run="b", prior={**DRAWN, "count": 2})
    assert len(drawn_files(whole)) == 4


def test_picture_of_the_class_that_was_cut_short_is_drawn_again(build: Build) -> None:
    first = build(run="a", prior={**DRAWN, "count": 3})
    before = [path.read_bytes() for path in drawn_files(first)]
    drawn_files(first)[1].write_bytes(before[1][:-20])
    drawn_files(first)[2].write_bytes(b"")
    again = build(run="b", prior={**DRAWN, "count": 3})
    assert [path.read_bytes() for path in drawn_files(again)] == before


def test_captions_of_the_class_are_never_dropped_and_lack_the_trigger(build: Build) -> None:
    trainer = build(prior=DRAWN, training={"caption_dropout": 1.0})
    draws = [draw for step in range(6) for batch in trainer.computer.draws(step) for draw in batch]
    assert {(draw.picture.kind, draw.text) for draw in draws} == {("train", ""), ("regularisation", PROMPT)}


def test_class_counts_by_its_own_weight_in_one_mean(build: Build) -> None:
    trainer = build(prior=DRAWN, regularisation={"weight": 0.25})
    step, draws = mixed_step(trainer)
    alone = build(run="b", prior=DRAWN)
    (plain,) = alone.computer.draws(step)
    assert [(d.index, d.text, d.u) for d in plain] == [(d.index, d.text, d.u) for d in draws]
    with torch.no_grad():
        losses = [float(alone.computer.losses([draw])) for draw in plain]
    counts = [0.25 if draw.picture.kind == "regularisation" else 1.0 for draw in plain]
    expected = sum(loss * count for loss, count in zip(losses, counts, strict=True)) / len(plain)
    assert float(trainer.computer.backward(step, 4)) == pytest.approx(expected, rel=1e-5)


# -- the base model as teacher -----------------------------------------------------------------------------------------


def test_without_pictures_the_set_itself_is_shown_as_the_class(build: Build) -> None:
    trainer = build(prior=TEACHER, dataset={"repeats": 2})
    dataset = trainer.dataset
    assert not drawn_files(trainer)
    assert {p.item.sha256 for p in dataset.regularisation} == {p.item.sha256 for p in dataset.train}
    assert {dataset.text(p) for p in dataset.regularisation} == {PROMPT}
    assert sum(dataset.bucket_samples.values()) == 40
    assert trainer.spec.samples(10) == 40


@pytest.mark.parametrize("base", ["sd", "sdxl", "flux"])
def test_fresh_adapter_already_knows_what_it_is_taught(base: str, build: Build) -> None:
    trainer = build(base, prior=TEACHER)
    mixed = next(
        b for s in range(9) for b in trainer.computer.draws(s) if len({d.picture.kind for d in b}) == 2
    )
    with torch.no_grad():
        losses = trainer.computer.losses(mixed)
    for draw, loss in zip(mixed, losses.tolist(), strict=True):
        assert (loss < 1e-10) == (draw.picture.kind == "regularisation")


@pytest.mark.parametrize("text_encoder", [False, True])
@pytest.mark.parametrize("method", ["lora", "dora", "loha"])
def test_target_is_what_the_base_model_predicts_for_the_class(
    build: Build, method: str, text_encoder: bool
) -> None:
    trainer = build(
        prior=TEACHER, method={"type": method, "targets": "all", "text_encoder": text_encoder},
        regularisation={"weight": 0.5}, training={"min_snr_gamma": 5.0},
    )  # fmt: skip
    shake(trainer.adapter)
    draw = of_the_class(trainer)[0]
    family, base, process = trainer.family, load_family("sd").tiny(), trainer.parts.process
    latent = trainer.dataset.latent(draw.picture, draw.flip, draw.crop)[None]
    noise = sample_noise(trainer.spec.training, latent.shape[1:], draw.step, draw.index)[None]
    t = process.timesteps(torch.tensor([draw.u], dtype=torch.float64))
    noised = process.add_noise(latent, noise, t)
    with torch.no_grad(), autocast("fp32", CPU):
        texts = [family.collate_text(family.encode_text(parts, [PROMPT])) for parts in (base, trainer.parts)]
        target = family.forward(base, noised, t, texts[0])
        prediction = family.forward(trainer.parts, noised, t, texts[1] if text_encoder else texts[0])
        found = float(trainer.computer.losses([draw]))
    snr = float(process.snr(t))
    error = float((prediction - target).square().mean())
    assert error > 1e-4
    assert found == pytest.approx(0.5 * min(snr, 5.0) / snr * error, rel=1e-4)


def test_micro_batches_add_up_to_the_batch_with_a_teacher(build: Build) -> None:
    trainer = build(prior=TEACHER, training={"batch_size": 6, "gradient_accumulation": 2})
    shake(trainer.adapter)
    assert_parts_add_up(trainer, 12, 1)


def test_teacher_keeps_the_class_as_the_base_model_has_it(build: Build) -> None:
    def drift(run: str, **prior: Any) -> float:
        trainer = build(
            run=run, prior=prior, method={"targets": "all"}, training={"steps": 40, "learning_rate": 1e-2},
            checkpoint={"every_steps": 1000},
        )  # fmt: skip
        trainer.train()
        family, parts = trainer.family, trainer.parts
        noised = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(5))
        t = torch.tensor([100, 300, 500, 700])
        with torch.no_grad():
            text = family.collate_text(family.encode_text(parts, [PROMPT] * 4))
            with_adapter = family.forward(parts, noised, t, text)
            with trainer.adapter.disabled():
                base = family.forward(parts, noised, t, text)
        return float((with_adapter - base).norm() / base.norm())

    assert drift("kept", **TEACHER) < 0.7 * drift("plain")


@pytest.mark.parametrize("prior", [DRAWN, TEACHER, {**DRAWN, "teacher": True}])
def test_resumed_run_ends_with_the_same_weights(build: Build, tmp_path: Path, prior: dict[str, Any]) -> None:
    training = {"caption_dropout": 0.3, "flip": True, "warmup_steps": 2}
    whole = build(run="whole", prior=prior, training=training)
    whole.train()
    again = build(
        run="again", prior=prior, training=training,
        resume_from=tmp_path / "whole" / "checkpoints" / "step-00000003",
    )  # fmt: skip
    again.train()
    assert_equal(weights(whole), weights(again))


# -- the recipe --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sections", "pointers"),
    [
        ({"prior": {"count": 5}}, ["/prior/prompt"]),
        ({"prior": {"teacher": True}}, ["/prior/prompt"]),
        ({"prior": {"teacher": True}, "regularisation": {"folder": "c"}}, []),
        ({"prior": {"teacher": True, "count": 5}, "regularisation": {"folder": "c"}}, ["/prior/prompt"]),
        ({"prior": {"count": 5001, "prompt": "a dog"}}, ["/prior/count"]),
        ({"prior": TEACHER, "method": {"type": "textual_inversion"}}, ["/prior"]),
        ({"prior": {"prompt": "a dog"}}, []),
    ],
)
def test_recipe_says_what_the_class_is(sections: dict[str, Any], pointers: list[str]) -> None:
    plain = {"name": "x", "base_model": {"path": "b"}, "dataset": {"folder": "p"}, "trigger": "inky"}
    assert [error.pointer for error in validate({**plain, **sections})] == pointers


def test_class_decides_the_recipe() -> None:
    plain = {"name": "x", "base_model": {"path": "b"}, "dataset": {"folder": "p"}}
    recipes = {
        RunSpec.from_dict({**plain, "prior": prior}).recipe_sha256()
        for prior in ({}, DRAWN, TEACHER, {**DRAWN, "steps": 3}, {**DRAWN, "guidance": 2.0})
    }
    assert len(recipes) == 5
    assert not RunSpec.from_dict(plain).mixes_in


# -- what it costs -----------------------------------------------------------------------------------------------------


def test_estimate_counts_the_drawing_and_the_teaching(bases: dict[str, Path], pictures: Path) -> None:
    def seconds(**prior: Any) -> float:
        spec = make_spec(bases["sd"], pictures, prior=prior, training={"steps": 100, "batch_size": 1})
        return estimate(spec, 10, device=DEVICES["24 GB"]).seconds

    plain, few = seconds(prompt=PROMPT, count=10, steps=20), seconds(prompt=PROMPT, count=30, steps=20)
    alone = seconds(prompt=PROMPT, count=10, steps=20, guidance=1.0)
    assert few - plain == pytest.approx(4 * (plain - alone), rel=0.05), "two passes each, or one"
    assert seconds(prompt=PROMPT, teacher=True) > 1.2 * seconds()
