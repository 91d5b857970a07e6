"""The measurements measure what they say, and complain."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import pages, styles
from training.advisor.recommend import Base, Device, Pictures
from training.advisor.templates import template_for
from training.services.recipes import make_recipe


@pytest.mark.parametrize(
    ("queries", "with_few", "cpu_ms", "complaints"),
    [
        (9, 9, 100.0, []),
        (9, 9, 100.1, ["MORE THAN 100 MS OF CPU"]),
        (10, 9, 20.0, ["QUERIES DEPEND ON THE ROWS"]),
        (8, 9, 20.0, ["QUERIES DEPEND ON THE ROWS"]),
    ],
)
def test_slow_page_and_page_whose_queries_grow_are_complained_about(
    queries: int, with_few: int, cpu_ms: float, complaints: list[str]
) -> None:
    assert pages.complaints(queries, with_few, cpu_ms) == complaints


def test_styles_are_trained_with_the_recipe_the_platform_recommends(tmp_path: Path) -> None:
    measured = styles.recipe("ink", 100, tmp_path)
    recipe = make_recipe(
        base=Base(key="demo", family="sd", resolution=64, is_demo=True),
        template=template_for("style"),
        pictures=Pictures(count=20, captioned=20),
        device=Device(),
        name="ink",
        trigger="ink style",
    )
    assert recipe.spec is not None
    assert measured.recipe() == recipe.spec.recipe()
    assert measured.sampling.prompts[0] == "a panda, ink style"
