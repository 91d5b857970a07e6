# ruff: noqa: E501 - a table reads better with its rows whole
"""What is warned about before a run: each condition holds where it should and not beside it."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from training.engine.estimate import DEVICES
from training.engine.hints import CONDITIONS, HINTS, SetFacts, facts_of, warnings_for
from training.engine.spec import FIELDS, RunSpec

GOOD = SetFacts(
    pictures=20, captions=tuple(f"plate {n}, plain" for n in range(20)), sizes=((600, 600),) * 20,
    digests=tuple(map(str, range(20))), buckets={"512x512": 20},
)  # fmt: skip


def spec_of(**sections: Any) -> RunSpec:
    data: dict[str, Any] = {
        "name": "x", "base_model": {"path": "models/some-base"}, "dataset": {"folder": "d"}, "trigger": "inky",
        "training": {"steps": 1000, "batch_size": 2}, "sampling": {"prompts": ["{trigger}, a plate"]},
    }  # fmt: skip
    for name, value in sections.items():
        data[name] = {**data.get(name, {}), **value} if isinstance(value, dict) else value
    return RunSpec.from_dict(data)


def codes(spec: RunSpec, facts: SetFacts) -> set[str]:
    return {advice.code for advice in warnings_for(spec, facts)}


def only(spec: RunSpec, facts: SetFacts = GOOD) -> Any:
    """Return the one warning that there is."""
    (advice,) = warnings_for(spec, facts)
    return advice


def facts(**changes: Any) -> SetFacts:
    return dataclasses.replace(GOOD, **changes)


def test_a_good_recipe_on_a_good_set_is_not_warned_about() -> None:
    assert warnings_for(spec_of(), GOOD) == []


FLUX = {"path": "models/flux", "family": "flux"}
SDXL = {"path": "models/xl", "family": "sdxl"}
LONG = " ".join(["word"] * 80)
SENTENCES = tuple(f"a plate that lies on a table near the window, number {n}" for n in range(20))

CASES: list[tuple[str, dict[str, Any], dict[str, Any], str, dict[str, Any] | None]] = [
    ("batch_does_not_fit", {"training": {"batch_size": 8, "resolution": 512, "gradient_checkpointing": "off"}},
     {"device": DEVICES["8 GB"]}, "A batch of 8 does not fit into 8 GB; 3 fit.", {"/training/batch_size": 3}),
    ("does_not_fit", {"base_model": FLUX, "training": {"resolution": 1024}}, {"device": DEVICES["8 GB"], "sizes": ()},
     "Not even one picture at once fits into 8 GB with these settings.", None),
    ("does_not_fit", {"base_model": FLUX, "training": {"resolution": 1024}}, {"device": DEVICES["24 GB"], "sizes": ()},
     "Not even one picture at once fits into 24 GB with these settings.",
     {"/training/batch_size": 1, "/training/gradient_checkpointing": "auto", "/base_model/quantise": "auto",
      "/training/offload": "auto"}),
    ("disk_short", {}, {"disk_free_mb": 20}, "The checkpoints need 311 MB, and 20 MB are free.", None),
    ("resolution_not_multiple", {"base_model": FLUX, "training": {"resolution": 1000}}, {"divisor": 16, "sizes": ()},
     "A resolution of 1000 is not a multiple of 16, as this base model needs.", {"/training/resolution": 992}),
    ("distilled_base", {"base_model": {"path": "models/Z-Image-Turbo"}}, {},
     "The base model Z-Image-Turbo is distilled: it draws in a few steps, and training undoes that.", None),
    ("learning_rate_high", {"training": {"learning_rate": 0.01}}, {},
     "A learning rate of 0.01 destroys most base models.", {"/training/learning_rate": 1e-4}),
    ("learning_rate_high", {"training": {"learning_rate": 5e-4, "optimizer": "lion"}}, {},
     "A learning rate of 0.0005 destroys most base models.", {"/training/learning_rate": 1e-3 / 3 / 10}),
    ("learning_rate_low", {"training": {"learning_rate": 1e-7}}, {},
     "With a learning rate of 1e-07 the loss stays flat and nothing is learned.", {"/training/learning_rate": 1e-4}),
    ("alpha_high", {"method": {"rank": 8, "alpha": 64.0}}, {},
     "With this alpha the LoRA acts 8 times as strongly as usual, as if the learning rate were so much higher.",
     {"/method/alpha": 8.0}),
    ("alpha_high", {"method": {"type": "rslora", "rank": 64, "alpha": 64.0}}, {},
     "With this alpha the LoRA acts 8 times as strongly as usual, as if the learning rate were so much higher.",
     {"/method/alpha": 8.0}),
    ("alpha_low", {"method": {"rank": 64, "alpha": 1.0}}, {},
     "With this alpha the LoRA acts 0.0156 times as strongly as usual, and the learning rate does not make up for it.",
     {"/method/alpha": 64.0}),
    ("few_pictures", {"training": {"steps": 400}}, {"pictures": 4, "buckets": {}}, "There are only 4 pictures to train on.", None),
    ("one_picture", {"training": {"steps": 200}}, {"pictures": 1, "buckets": {}}, "There is one picture to train on.", None),
    ("too_few_steps", {"training": {"steps": 60}}, {},
     "In 60 steps each picture is seen 6 times, which is too little to be learned.",
     {"/training/steps": 1000, "/training/epochs": None}),
    ("too_many_steps", {"training": {"steps": 10_000}}, {},
     "In 10000 steps each picture is seen 1000 times, and would be learned by heart.",
     {"/training/steps": 1000, "/training/epochs": None}),
    ("rank_large", {"method": {"rank": 128}}, {}, "A rank of 128 is large for 20 pictures.", {"/method/rank": 16}),
    ("batch_over_bucket", {"training": {"batch_size": 16, "steps": 200}}, {"buckets": {"512x512": 12, "448x576": 8}},
     "The batch size is 16, and no shape of picture has more than 12 samples: no batch is ever full.",
     {"/training/batch_size": 12}),
    ("buckets_lonely", {"training": {"batch_size": 4, "steps": 600}}, {"buckets": {"512x512": 17, "448x576": 2, "576x448": 1}},
     "2 of 3 shapes of picture have fewer samples than a batch of 4.", None),
    ("images_small", {}, {"sizes": ((200, 300),) * 15 + ((600, 600),) * 5},
     "15 pictures are much smaller than the training resolution.", {"/training/resolution": 192}),
    ("images_twice", {}, {"digests": ("a", "a", "b", "a")}, "2 pictures are in the set twice.", None),
    ("resolution_below_base", {"base_model": SDXL, "training": {"resolution": 512}}, {},
     "Training at 512 pixels teaches a base model made for 1024 to draw small and blurred.", {"/training/resolution": 1024}),
    ("resolution_above_base", {"training": {"resolution": 1024}}, {"sizes": ()},
     "Training at 1024 pixels a base model made for 512 takes long and doubles what it draws.", {"/training/resolution": 512}),
    ("captions_missing", {"trigger": "", "captions": {"template": "{caption}"}}, {"captions": ("",) * 20},
     "There are neither captions nor a trigger word.", None),
    ("captions_partly_missing", {}, {"captions": ("a",) * 18 + ("",) * 2}, "2 pictures have no caption.", None),
    ("captions_alike", {}, {"captions": ("a plate",) * 20}, "All 20 captions are the same.", None),
    ("captions_long", {}, {"captions": (LONG, "short", "shorter")},
     "1 captions are longer than the 75 tokens this base model reads.", None),
    ("captions_orphaned", {}, {"orphans": 3}, "3 caption files belong to no picture.", None),
    ("sentences_shuffled", {"captions": {"shuffle_tags": True}}, {"captions": SENTENCES},
     "Tags are to be shuffled, but the captions are sentences.", {"/captions/shuffle_tags": False}),
    ("trigger_common", {"trigger": "Dog"}, {}, "The trigger word 'Dog' is a word that the base model knows.", None),
    ("trigger_not_drawn", {"sampling": {"prompts": ["a plate", "a cup"]}}, {},
     "No sample prompt has the trigger word, so samples show nothing of what is learned.",
     {"/sampling/prompts": ["{trigger}, a plate", "a cup"]}),
    ("caption_dropout_high", {"training": {"caption_dropout": 0.8}}, {},
     "80 % of the samples are trained without their caption.", {"/training/caption_dropout": 0.1}),
    ("held_out_few", {"training": {"held_out": 0.1}}, {"pictures": 10, "held_out": 1, "buckets": {}},
     "Pictures are kept aside to measure, out of only 11.", {"/training/held_out": 0.0}),
    ("warmup_long", {"training": {"warmup_steps": 800}}, {}, "The warm-up takes 800 of 1000 steps.", {"/training/warmup_steps": 50}),
    ("encoder_rate_high", {"method": {"text_encoder": True}, "training": {"text_encoder_learning_rate": 1e-3}}, {},
     "The text encoder learns faster than the rest, and forgets words.", {"/training/text_encoder_learning_rate": 5e-5}),
    ("min_snr_of_flow", {"base_model": FLUX, "training": {"min_snr_gamma": 5.0}}, {},
     "Min-SNR does not fit a base model that learns a flow; the run will be refused.", {"/training/min_snr_gamma": None}),
    ("weighting_unfit", {"training": {"loss_weighting": "cosmap"}}, {},
     "The weight cosmap of noise levels does not fit this base model; the run will be refused.",
     {"/training/loss_weighting": "none"}),
    ("weighting_unfit", {"base_model": FLUX, "training": {"loss_weighting": "debiased"}}, {},
     "The weight debiased of noise levels does not fit this base model; the run will be refused.",
     {"/training/loss_weighting": "none"}),
    ("noise_offset_of_flow", {"base_model": FLUX, "training": {"noise_offset": 0.05}}, {},
     "Noise offset shifts what a base model that learns a flow expects.", {"/training/noise_offset": 0.0}),
    ("never_saved", {"checkpoint": {"every_steps": 2000, "every_minutes": None}}, {},
     "Checkpoints come every 2000 steps, and the run has 1000: nothing is saved on the way.", {"/checkpoint/every_steps": 100}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("code", "sections", "changes", "message", "patch"), CASES, ids=[case[0] for case in CASES]
)
def test_condition_is_told_alone_with_its_numbers(
    code: str, sections: dict[str, Any], changes: dict[str, Any], message: str, patch: dict[str, Any] | None
) -> None:
    advice = only(spec_of(**sections), facts(**changes))
    assert (advice.code, advice.message, advice.patch) == (code, message, patch)
    assert advice.hint
    json.dumps(advice.patch)


def test_every_condition_is_tested_and_has_a_code_of_its_own() -> None:
    told = [condition.code for condition in CONDITIONS]
    assert len(set(told)) == len(told) == 36
    assert {case[0] for case in CASES} == set(told)
    assert not {hint.code for hint in HINTS} & set(told)


@pytest.mark.parametrize(
    ("code", "sections", "changes", "message", "patch"), CASES, ids=[case[0] for case in CASES]
)
def test_following_the_advice_ends_the_warning(
    code: str, sections: dict[str, Any], changes: dict[str, Any], message: str, patch: dict[str, Any] | None
) -> None:
    if patch is None:
        return
    data = spec_of(**sections).to_dict()
    for pointer, value in patch.items():
        assert pointer in FIELDS
        section, name = pointer.strip("/").split("/")
        data[section][name] = value
    assert code not in codes(RunSpec.from_dict(data), facts(**changes))


def test_distilled_base_is_what_the_recipe_says_or_else_its_name() -> None:
    turbo: dict[str, Any] = {"path": "models/Z-Image-Turbo"}
    assert codes(spec_of(base_model=turbo), GOOD) == {"distilled_base"}
    assert codes(spec_of(base_model={**turbo, "training_adapter": "adapter.safetensors"}), GOOD) == set()
    assert codes(spec_of(base_model={**turbo, "distilled": "no"}), GOOD) == set()
    assert codes(spec_of(base_model={"path": "models/FLUX.2-klein-base-4B"}), GOOD) == set()
    assert codes(spec_of(base_model={"path": "models/mine", "distilled": "yes"}), GOOD) == {"distilled_base"}


def test_regularisation_pictures_are_not_counted_as_views_of_the_set() -> None:
    mixed = spec_of(regularisation={"folder": "r", "ratio": 9.0}, training={"steps": 800})
    (advice,) = warnings_for(mixed, facts(buckets={"512x512": 200}))
    assert (advice.code, advice.values["views"]) == ("too_few_steps", 8)


def test_what_is_not_known_is_not_warned_about() -> None:
    assert warnings_for(spec_of(training={"batch_size": 8}), SetFacts(pictures=20)) == []


def test_facts_are_taken_from_the_pictures() -> None:
    rows = [("a plate", (512, 512), "d1"), ("", (640, 480), "d2")]
    found = facts_of(rows, buckets={"512x512": 2}, divisor=16)
    assert (found.pictures, found.captions, found.digests) == (2, ("a plate", ""), ("d1", "d2"))
    assert (found.sizes, found.buckets, found.divisor) == (((512, 512), (640, 480)), {"512x512": 2}, 16)
