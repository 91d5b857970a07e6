"""The measurements measure what they say, and complain."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench import first_step, pages, styles
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


def test_way_to_the_first_step_is_told_part_by_part() -> None:
    begin = datetime(2026, 1, 1, tzinfo=UTC)

    def event(seconds: float, kind: str, **data: Any) -> SimpleNamespace:
        return SimpleNamespace(at=begin + timedelta(seconds=seconds), type=kind, data=data)

    events = [
        event(0.0, "status", state="queued"),
        event(0.25, "status", state="starting"),
        event(0.5, "phase", phase="fetch_data", done=20, total=20),
        event(1.0, "phase", phase="fetch_data", done=0, total=1),
        event(1.5, "phase", phase="load_base", done=0, total=1),
        event(2.0, "phase", phase="load_base", done=1, total=1),
        event(4.0, "metrics", step=1),
        event(9.0, "metrics", step=2),
    ]
    assert first_step.marks(events) == {
        "all": 4.0,
        "claimed": 0.25,
        "fetch_data done": 0.25,
        "engine says the first thing": 0.5,
        "load_base": 0.5,
        "load_base done": 0.5,
        "metrics": 2.0,
    }
    with pytest.raises(RuntimeError, match="no first step"):
        first_step.marks(events[:-2])
