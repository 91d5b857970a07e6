"""What the advisor recommends, and why."""

from __future__ import annotations

import itertools

import pytest

from tests.scenario import Scenario
from tests.training.rows import make_version
from training.advisor.recommend import GIVEN, Base, Device, Pictures, common_phrase, recommend
from training.advisor.templates import TEMPLATES, template_for
from training.engine.data.captions import caption_text
from training.engine.spec import FIELDS
from training.services.recipes import describe_pictures, flatten, make_recipe

DEMO = Base(key="demo", family="sd", resolution=64, is_demo=True, prompts=("a cat", "an apple"))
SD15 = Base(key="sd15", family="sd", resolution=512)
SDXL = Base(key="sdxl", family="sdxl", resolution=1024)
FLUX = Base(key="flux", family="flux", resolution=1024)
PIXART = Base(key="pixart", family="pixart", resolution=1024)
BIG = Device(memory_mb=80 * 1024)


def _values(
    base: Base, template: str, count: int, device: Device = BIG, **chosen: object
) -> dict[str, object]:
    advice = recommend(base, template_for(template), Pictures(count=count), device, chosen)
    return {pointer: each.value for pointer, each in advice.items()}


@pytest.mark.parametrize("template", sorted(TEMPLATES))
@pytest.mark.parametrize("base", [DEMO, SD15, SDXL, FLUX], ids=lambda base: base.key)
def test_every_recommendation_is_a_valid_recipe(base: Base, template: str) -> None:
    for count, gb in itertools.product((1, 3, 24, 100, 10_000), (0, 8, 24, 80)):
        recipe = make_recipe(
            base=base,
            template=template_for(template),
            pictures=Pictures(count=count),
            device=Device(memory_mb=gb * 1024),
            name="Kael",
            trigger="kael",
        )
        assert recipe.errors == []
        assert recipe.spec is not None
        assert set(recipe.advice) == set(FIELDS) - GIVEN


def test_nobody_names_a_place_on_a_worker() -> None:
    assert {pointer for pointer, field in FIELDS.items() if field.kind == "path"} <= GIVEN
    assert "/base_model/training_adapter" in GIVEN


def test_demo_model_gets_its_own_values() -> None:
    values = _values(DEMO, "style", 24, Device())
    assert {
        pointer: values[pointer]
        for pointer in (
            "/method/rank",
            "/method/targets",
            "/training/learning_rate",
            "/training/batch_size",
            "/training/steps",
            "/training/resolution",
            "/sampling/every_steps",
            "/sampling/guidance",
        )
    } == {
        "/method/rank": 8,
        "/method/targets": "all",
        "/training/learning_rate": 1e-3,
        "/training/batch_size": 8,
        "/training/steps": 100,
        "/training/resolution": 64,
        "/sampling/every_steps": 20,
        "/sampling/guidance": 2.5,
    }
    assert values["/sampling/prompts"] == ["a cat, {trigger}", "an apple, {trigger}"]


def test_less_memory_gives_smaller_batches() -> None:
    by_memory = {gb: _values(SD15, "style", 60, Device(memory_mb=gb * 1024)) for gb in (6, 8, 12, 16, 48)}
    assert {
        gb: (
            values["/training/batch_size"],
            values["/training/gradient_accumulation"],
            values["/base_model/quantise"],
        )
        for gb, values in by_memory.items()
    } == {6: (2, 1, "auto"), 8: (2, 1, "none"), 12: (4, 1, "none"), 16: (8, 1, "none"), 48: (8, 1, "none")}


def test_small_device_adds_up_the_pictures_that_do_not_fit_at_once() -> None:
    values = _values(PIXART, "style", 60, Device(memory_mb=12 * 1024))
    assert (values["/training/batch_size"], values["/training/gradient_accumulation"]) == (1, 2)


def test_what_is_traded_for_memory_follows_the_device() -> None:
    def traded(gb: int, **chosen: object) -> tuple[bool, bool]:
        advice = recommend(FLUX, template_for("style"), Pictures(60), Device(memory_mb=gb * 1024), chosen)
        levels, weights = advice["/training/gradient_checkpointing"], advice["/base_model/quantise"]
        return "tight" in str(levels.reason), weights.value == "auto"

    assert {gb: traded(gb) for gb in (16, 48, 80)} == {
        16: (True, True),
        48: (True, False),
        80: (False, False),
    }
    # Half the weights and a quarter of the pixels, both the person's own, leave room on a smaller one.
    smaller = {"/base_model/quantise": "int8", "/training/resolution": 512}
    assert traded(32) == (True, True)
    assert traded(32, **smaller) == (False, False)


def test_batch_follows_from_the_persons_own_resolution() -> None:
    def batch(**chosen: object) -> object:
        return _values(SDXL, "style", 60, Device(memory_mb=24 * 1024), **chosen)["/training/batch_size"]

    assert batch() == 1
    assert batch(**{"/training/resolution": 512}) == 4
    assert (
        batch(**{"/training/resolution": "wide"}) == 1
    )  # what is wrong with it, the recipe's own check says


def test_plugins_family_of_unknown_size_is_trained_one_picture_at_a_time() -> None:
    advice = recommend(
        Base(key="x", family="x", resolution=1024), template_for("style"), Pictures(60), BIG, {}
    )
    assert (advice["/training/batch_size"].value, advice["/training/batch_size"].reason) == (1, "")


def test_larger_batch_takes_fewer_steps_and_a_higher_rate() -> None:
    usual = _values(SDXL, "style", 60, Device(memory_mb=12 * 1024))
    larger = _values(SDXL, "style", 60, Device(memory_mb=48 * 1024))
    assert (usual["/training/steps"], usual["/training/learning_rate"]) == (2500, 1e-4)
    assert (larger["/training/steps"], larger["/training/learning_rate"]) == (600, 2e-4)


def test_what_follows_from_a_value_follows_from_the_persons_own() -> None:
    values = _values(DEMO, "style", 24, Device(), **{"/training/steps": 40})
    assert values["/training/steps"] == 100
    assert (values["/sampling/every_steps"], values["/training/warmup_steps"]) == (8, 4)


def test_chosen_optimizer_gets_the_rate_and_the_schedule_it_wants() -> None:
    def wanted(optimizer: str) -> tuple[float, str]:
        values = _values(SDXL, "style", 60, Device(memory_mb=12 * 1024), **{"/training/optimizer": optimizer})
        return values["/training/learning_rate"], values["/training/schedule"]

    assert {name: wanted(name) for name in ("adamw", "prodigy", "lion", "schedule-free")} == {
        "adamw": (1e-4, "cosine"),
        "prodigy": (1.0, "cosine"),
        "lion": (2e-5, "cosine"),
        "schedule-free": (1e-4, "constant"),
    }


def test_flow_models_get_no_min_snr() -> None:
    found = {base.key: _values(base, "style", 40)["/training/min_snr_gamma"] for base in (FLUX, SDXL, PIXART)}
    assert found == {"flux": None, "sdxl": 5.0, "pixart": 5.0}


def test_faces_logos_and_text_are_not_mirrored() -> None:
    assert {key: _values(SDXL, key, 30)["/training/flip"] for key in TEMPLATES} == {
        "character": False,
        "style": True,
        "product": False,
        "concept": False,
    }


@pytest.mark.parametrize("template", sorted(TEMPLATES))
@pytest.mark.parametrize("base", [DEMO, SD15, SDXL, FLUX], ids=lambda base: base.key)
def test_every_recommended_caption_says_the_trigger_word(base: Base, template: str) -> None:
    for captioned in (0, 5, 10):
        pictures = Pictures(count=10, captioned=captioned)
        advice = recommend(base, template_for(template), pictures, BIG)["/captions/template"]
        assert "{trigger}" in advice.value
        assert "{caption}" in advice.value


def test_set_half_captioned_with_the_trigger_trains_it_with_every_picture(scenario: Scenario) -> None:
    captions = ["a dog, ink style", "ink style cat", "a pink stylebook", "a dog"]
    version = make_version(scenario.alice, captions=captions)
    recipe = make_recipe(
        base=DEMO,
        template=template_for("style"),
        pictures=describe_pictures(version),
        device=Device(),
        name="Ink",
        trigger="ink style",
    )
    assert recipe.spec is not None
    assert [caption_text(recipe.spec.captions, "ink style", caption) for caption in captions] == [
        "a dog, ink style",
        "ink style cat",
        "a pink stylebook, ink style",
        "a dog, ink style",
    ]


def test_settings_may_be_nested_dotted_or_pointers() -> None:
    assert flatten({"training": {"steps": 5}, "method.rank": 4, "/training/seed": 1}) == {
        "/training/steps": 5,
        "/method/rank": 4,
        "/training/seed": 1,
    }


def test_choosing_epochs_clears_the_steps() -> None:
    recipe = make_recipe(
        base=DEMO,
        template=template_for("style"),
        pictures=Pictures(count=24),
        device=Device(),
        name="Ink",
        settings={"training": {"epochs": 12}},
    )
    assert recipe.spec is not None
    assert (recipe.spec.training.steps, recipe.spec.training.epochs) == (None, 12)
    assert recipe.spec.sampling.every_steps == 8  # 12 epochs of 3 steps, five rounds


def test_wrong_settings_are_all_named() -> None:
    recipe = make_recipe(
        base=DEMO,
        template=template_for("style"),
        pictures=Pictures(count=24),
        device=Device(),
        name="Ink",
        settings={
            "training": {"steps": 0, "speed": 1},
            "method": {"targets": "none"},
            "/base_model/path": "/",
        },
    )
    assert recipe.spec is None
    assert [(e.pointer, e.code, e.message) for e in recipe.errors] == [
        ("/base_model/path", "not_yours", "This is set by the platform and cannot be changed."),
        ("/method/targets", "not_a_choice", "Trained layers must be one of: attn, attn-mlp, all."),
        ("/training/speed", "unknown_key", "There is no setting /training/speed."),
        ("/training/steps", "out_of_range", "Steps must be between 1 and 1000000."),
    ]


def test_the_phrase_that_captions_share_is_found() -> None:
    assert common_phrase(["a dog, ink style", "a fox, ink style", "two cherries, ink style"]) == "ink style"
    assert common_phrase(["kael, walking", "kael, in a red coat, at night"]) == "kael"
    assert common_phrase(["a dog", "a fox, red"]) == ""
    assert common_phrase([]) == ""


def test_a_batch_of_the_persons_own_is_not_added_up_again() -> None:
    values = _values(SD15, "style", 60, Device(), **{"/training/batch_size": 16})
    assert values["/training/gradient_accumulation"] == 1
