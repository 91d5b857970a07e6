"""Optimizers within a run: resume, what is told, drawn and exported, and settings that do not go together."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from training.engine.errors import ConfigurationError
from training.engine.methods.base import ParameterGroup
from training.engine.optimizer import Optimizer
from training.engine.spec import RunSpec, SpecError, TrainingSpec, validate

from .conftest import Build, assert_equal, make_spec, recorded, weights
from .test_optimizers import EVERY, group, parameters, rule, set_gradients

# -- within a run ----------------------------------------------------------------------------------------------------

WISHES = {
    "prodigy": {"learning_rate": 1.0},
    "schedule-free": {"schedule": "constant"},
    "lion": {"learning_rate": 1e-3},
}


@pytest.mark.parametrize("name", [each for each in EVERY if each != "adamw"])
def test_resumed_run_ends_with_the_same_weights(name: str, build: Build, tmp_path: Path) -> None:
    training = {"optimizer": name, "steps": 4, **WISHES.get(name, {})}
    whole = build(run="whole", training=training, checkpoint={"every_steps": 2})
    fresh = weights(whole)
    whole.train()
    assert all(
        not torch.equal(fresh[key], tensor) for key, tensor in weights(whole).items() if "lora_B" in key
    )
    again = build(run="again", training=training, checkpoint={"every_steps": 2},
                  resume_from=tmp_path / "whole/checkpoints/step-00000002")  # fmt: skip
    again.train()
    assert_equal(weights(whole), weights(again))


def test_found_learning_rate_is_the_one_that_is_told(build: Build) -> None:
    trainer = build(training={"optimizer": "prodigy", "learning_rate": 1.0, "schedule": "linear", "steps": 4})
    trainer.train()
    told = recorded(trainer).curve("learning_rate")
    assert told[1] == pytest.approx(1e-6, rel=1e-3)
    estimate = float(trainer.optimizer.state_dict()["denoiser/d"])
    assert told[4] == pytest.approx(estimate / 4, rel=1e-3, abs=1e-8)


@pytest.fixture
def averaging(build: Build) -> Any:
    training = {
        "optimizer": "schedule-free", "schedule": "constant", "steps": 3, "learning_rate": 1e-2, "held_out": 0.2
    }  # fmt: skip
    return build(training=training, output={"dtype": "fp32"}, sampling={"prompts": ["a cat"]})


def test_samples_figures_and_file_show_the_mean_and_training_goes_on_from_the_trained(averaging: Any) -> None:
    seen: dict[str, dict[str, Tensor]] = {}
    for owner, method in ((averaging.artist, "draw_clips"), (averaging.computer, "held_out_loss")):
        original = getattr(owner, method)

        def watched(*args: Any, original: Any = original, method: str = method, **options: Any) -> Any:
            seen[method] = weights(averaging)
            return original(*args, **options)

        setattr(owner, method, watched)
    averaging.train()
    trained = weights(averaging)
    with averaging.optimizer.averaged():
        mean = weights(averaging)
    assert_equal(trained, weights(averaging))
    assert any(not torch.equal(trained[name], mean[name]) for name in mean)
    assert_equal(seen["held_out_loss"], mean)
    assert_equal(seen["draw_clips"], mean)
    file = load_file(averaging.export_lora_weights())
    assert_equal(trained, weights(averaging))
    key = next(key for key in file if key.endswith("lora_up.weight"))
    ups = [tensor for name, tensor in mean.items() if "lora_B" in name and tensor.shape == file[key].shape]
    assert any(torch.equal(file[key], up) for up in ups)


@pytest.mark.parametrize(
    ("settings", "rates"),
    [({"schedule": "cosine-restarts", "schedule_restarts": 1}, [2.0, 1.0, 2.0, 1.0]),
     ({"schedule": "polynomial", "schedule_power": 3.0}, [2.0, 0.84375, 0.25, 0.03125])],
)  # fmt: skip
def test_settings_of_a_schedule_reach_the_optimizer(settings: dict[str, Any], rates: list[float]) -> None:
    own = ParameterGroup("denoiser", [("denoiser.a.weight", nn.Parameter(torch.zeros(3)))], 2.0)
    optimizer = Optimizer([own], TrainingSpec(**settings), 4)
    assert [optimizer.learning_rate(step) for step in range(4)] == pytest.approx(rates)


def test_clipping_holds_for_every_optimizer() -> None:
    for name in ("lion", "came"):
        own = parameters()
        optimizer = Optimizer([group(own)], TrainingSpec(optimizer=name, max_grad_norm=0.01), 10)
        set_gradients(own, 0)
        assert float(optimizer.clip()) > 1.0
        after = torch.nn.utils.get_total_norm([p.grad for p in own if p.grad is not None])
        assert float(after) == pytest.approx(0.01, rel=1e-3)


# -- settings --------------------------------------------------------------------------------------------------------


def test_missing_library_is_named_with_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ConfigurationError) as caught:
        rule("adamw-8bit", parameters())
    assert caught.value.code == "extra_missing"
    assert "bitsandbytes" in caught.value.message
    assert "'gpu'" in str(caught.value.hint)
    assert caught.value.patch == {"/training/optimizer": "adamw"}


def test_wrong_company_of_an_optimizer_is_named(pictures: Path) -> None:
    plain = make_spec(Path("sd"), pictures).to_dict()

    def errors(**training: Any) -> list[str]:
        found: list[SpecError] = validate({**plain, "training": {**plain["training"], **training}})
        return [f"{error.pointer} {error.code}" for error in found]

    assert errors(optimizer="prodigy") == ["/training/learning_rate conflict"]
    assert errors(optimizer="prodigy", learning_rate=1.0) == []
    assert errors(optimizer="schedule-free") == ["/training/schedule conflict"]
    assert errors(optimizer="schedule-free", schedule="constant") == []


def test_another_optimizer_is_another_recipe(pictures: Path) -> None:
    def spec(optimizer: str) -> RunSpec:
        return make_spec(Path("sd"), pictures, training={"optimizer": optimizer})

    assert spec("adamw").recipe_sha256() != spec("lion").recipe_sha256()
