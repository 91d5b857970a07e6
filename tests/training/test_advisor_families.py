"""The advisor's table of families beside the trainer's own families and beside what is published for them."""

from __future__ import annotations

import itertools

import pytest

from training.advisor.families import FAMILIES
from training.advisor.recommend import Base, Device, Pictures, recommend
from training.advisor.templates import TEMPLATES, TemplateKey, template_for
from training.engine import registry
from training.engine.estimate import MODELS, DeviceProfile, estimate
from training.services.recipes import make_recipe

GIGABYTES = (6, 8, 12, 16, 24, 32, 48, 80, 141)
# Lowest and highest of what trainers and guides publish: rank, learning rate, pictures seen in a run.
PUBLISHED = {
    "sd": ((8, 64), (1e-4, 5e-4), (1500, 4000)),
    "sdxl": ((8, 32), (1e-4, 5e-4), (1200, 3000)),
    "sd3": ((16, 128), (1e-5, 1e-4), (500, 4000)),
    "flux": ((4, 32), (1e-4, 8e-4), (500, 4000)),
    "flux2": ((16, 32), (5e-5, 1e-4), (500, 4000)),
    "flux2-klein": ((16, 32), (3e-5, 5e-4), (500, 4000)),
    "chroma": ((16, 32), (1e-4, 2e-4), (500, 4000)),
    "lumina2": ((8, 16), (1e-4, 1e-4), (500, 4000)),
    "sana": ((4, 16), (1e-5, 1e-4), (500, 4000)),
    "pixart": ((8, 32), (1e-5, 1e-4), (2000, 6000)),
    "qwen-image": ((16, 32), (5e-5, 1e-4), (1500, 2500)),
    "z-image": ((16, 128), (1e-4, 3e-4), (2000, 5000)),
    "wan": ((16, 32), (1e-4, 2e-4), (500, 4000)),
    "ltx": ((4, 128), (5e-5, 1e-4), (1000, 3000)),
}


def _base(family: str) -> Base:
    return Base(key=family, family=family, resolution=MODELS[family].resolution)


def test_every_family_of_the_trainer_has_starts_of_its_own() -> None:
    assert set(FAMILIES) == set(registry.BUILT_IN[registry.FAMILIES]) == set(PUBLISHED)
    assert {name for name, family in FAMILIES.items() if set(family.starts) != set(TemplateKey)} == set()


@pytest.mark.parametrize("name", FAMILIES)
def test_guidance_and_objective_are_those_of_the_trainers_family(name: str) -> None:
    engine = registry.load_family(name)
    assert FAMILIES[name].guidance == engine.guidance_default
    assert FAMILIES[name].is_flow == (engine.tiny().process.objective == "flow")


@pytest.mark.parametrize("name", FAMILIES)
def test_recommendations_lie_within_what_is_published_whatever_the_device(name: str) -> None:
    ranks, rates, steps = PUBLISHED[name]
    for template, gb in itertools.product(TEMPLATES, (0, *GIGABYTES)):
        advice = recommend(_base(name), template_for(template), Pictures(30), Device(gb * 1024))
        values = {pointer: each.value for pointer, each in advice.items()}
        batch = values["/training/batch_size"] * values["/training/gradient_accumulation"]
        assert ranks[0] <= values["/method/rank"] <= ranks[1]
        assert 0.5 <= values["/method/alpha"] / values["/method/rank"] <= 1.0
        assert rates[0] <= values["/training/learning_rate"] <= rates[1]
        assert steps[0] <= values["/training/steps"] * batch <= steps[1]


@pytest.mark.parametrize("name", FAMILIES)
def test_recommended_batch_fits_where_the_trainers_estimate_says_that_any_does(name: str) -> None:
    for template, gb in itertools.product(TEMPLATES, GIGABYTES):
        recipe = make_recipe(
            base=_base(name),
            template=template_for(template),
            pictures=Pictures(30),
            device=Device(gb * 1024),
            name="Kael",
        )
        assert recipe.spec is not None
        found = estimate(recipe.spec, 30, device=DeviceProfile("", 1.0, gb * 1024))
        batch = recipe.spec.training.batch_size
        assert found.largest_batch is not None
        assert batch <= max(1, found.largest_batch)
        assert found.fits == (found.largest_batch >= 1)


def test_batch_by_memory_of_the_large_families() -> None:
    def batches(name: str) -> list[int]:
        found = [
            recommend(_base(name), template_for("style"), Pictures(30), Device(gb * 1024))
            for gb in (12, 24, 48, 80, 141)
        ]
        return [advice["/training/batch_size"].value for advice in found]

    assert {name: batches(name) for name in ("sdxl", "flux", "flux2", "qwen-image", "ltx")} == {
        "sdxl": [1, 1, 4, 8, 8],
        "flux": [1, 1, 1, 1, 2],
        "flux2": [1, 1, 1, 1, 1],
        "qwen-image": [1, 1, 1, 1, 2],
        "ltx": [1, 4, 4, 4, 4],
    }
