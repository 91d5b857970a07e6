"""What is said against a recipe before it starts, and the change that mends it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from tests.scenario import Scenario
from tests.training.rows import make_base, make_version
from training.advisor.problems import Needs, Problem, find_problems
from training.advisor.recommend import Base, Device, Pictures
from training.advisor.templates import template_for
from training.models import TrainingJob, Worker
from training.queue.outlook import look_ahead, outlook_of, outlook_of_new
from training.services.estimates import estimate_run
from training.services.jobs import create_job
from training.services.recipes import make_recipe, require_valid
from training.states import JobState

SDXL = Base(key="sdxl", family="sdxl", resolution=1024)


def _problems(
    *,
    settings: dict[str, Any] | None = None,
    pictures: Pictures | None = None,
    template: str = "style",
    trigger: str = "kael",
    memory: tuple[int, ...] = (0, 0),
    views: int = 100,
) -> list[Problem]:
    pictures = pictures or Pictures(count=40, captioned=40)
    recipe = make_recipe(
        base=SDXL,
        template=template_for(template),
        pictures=pictures,
        device=Device(memory_mb=24 * 1024),
        name="Kael",
        trigger=trigger,
        settings=settings,
    )
    return find_problems(
        require_valid(recipe), recipe.advice, template_for(template), pictures, Needs(*memory), views
    )


def test_a_recommended_recipe_has_no_problems() -> None:
    assert _problems() == []


@pytest.mark.parametrize(
    ("settings", "fix"),
    [
        ({"training.batch_size": 4}, {"/training/batch_size": 2, "/training/gradient_accumulation": 2}),
        (
            {"training.batch_size": 1, "training.gradient_checkpointing": "off"},
            {"/training/gradient_checkpointing": "all"},
        ),
        ({"training.batch_size": 1}, {"/training/resolution": 512}),
        (
            {"training.batch_size": 1, "training.gradient_checkpointing": "all"},
            {"/training/resolution": 512},
        ),
    ],
)
def test_too_little_memory_offers_the_mildest_change(settings: dict[str, Any], fix: dict[str, Any]) -> None:
    [problem] = _problems(settings=settings, memory=(12 * 1024, 8 * 1024))
    assert (problem.code, problem.level) == ("memory", "warning")
    assert problem.message == "This needs about 12 GB of memory and the largest worker has 8 GB."
    assert problem.fix is not None
    assert problem.fix.values == fix


def test_days_on_a_processor_are_said_before_they_begin() -> None:
    [problem] = _problems(memory=(0, 0, 13 * 3600))
    assert problem.message == "No worker has a graphics card. On a processor this takes about 13 hours."
    assert _problems(memory=(0, 24 * 1024, 13 * 3600)) == []


def test_what_the_pictures_lack_is_said() -> None:
    few = _problems(pictures=Pictures(count=5, captioned=3))
    assert [problem.code for problem in few] == ["few_pictures", "captions_missing"]
    silent = _problems(pictures=Pictures(count=40), trigger="")
    assert [problem.code for problem in silent] == ["no_words"]
    nameless = _problems(template="character", trigger="")
    assert [problem.code for problem in nameless] == ["no_trigger"]


def test_a_rate_far_from_the_usual_one_can_be_put_back() -> None:
    high, low = (_problems(settings={"training.learning_rate": rate}) for rate in (0.01, 1e-6))
    assert [problem.code for problem in (*high, *low)] == ["learning_rate", "learning_rate"]
    assert high[0].fix is not None
    assert high[0].fix.values == {"/training/learning_rate": 1e-4}


def test_too_many_views_and_too_few_are_said() -> None:
    assert [problem.code for problem in (*_problems(views=1000), *_problems(views=3))] == ["length", "length"]


def _job(scenario: Scenario, **settings: Any) -> TrainingJob:
    version = make_version(scenario.alice, name=f"Set {len(settings)}")
    return create_job(
        actor=scenario.alice,
        dataset_version=version,
        foundation_model=make_base(key=f"base-{len(settings)}"),
        template="style",
        name="Ink",
        trigger="ink",
        settings=settings,
    )


def test_the_forecast_is_taken_from_earlier_runs_of_the_team(scenario: Scenario) -> None:
    job = _job(scenario)
    recipe = make_recipe(
        base=Base(key="demo", family="sd", resolution=64, is_demo=True),
        template=template_for("style"),
        pictures=Pictures(count=24),
        device=Device(),
        name="Ink",
        settings={"training.steps": 200, "training.batch_size": 4},
    )
    spec = require_valid(recipe)
    guess = estimate_run(spec, job.foundation_model, team=scenario.team, pictures=24)
    assert (guess.measured, guess.images, guess.held_out) == (False, 22, 2)
    assert (guess.steps, guess.steps_per_epoch, guess.epochs, guess.views) == (200, 6, 34, 36)
    end = timezone.now()
    TrainingJob.objects.for_team(scenario.team).filter(pk=job.pk).update(
        state=JobState.SUCCEEDED,
        step=100,
        steps_per_second=2.0,
        started_at=end - timedelta(seconds=80),
        finished_at=end,
    )
    measured = estimate_run(spec, job.foundation_model, team=scenario.team, pictures=24)
    # 100 steps of 8 pictures took 50 s and 30 s around them: 200 steps of 4 pictures take as long.
    assert (measured.measured, measured.seconds) == (True, 80)
    stranger = estimate_run(spec, job.foundation_model, team=scenario.charlie.team, pictures=24)
    assert stranger.measured is False


def test_the_outlook_says_why_a_training_waits(scenario: Scenario, settings: Any) -> None:
    settings.TEAM_MAX_RUNNING = 1
    assert outlook_of_new(scenario.team).reason == "worker"
    for name in ("one", "two"):
        Worker.objects.create(name=name, device="CPU", seen_at=timezone.now())
    assert outlook_of_new(scenario.team).reason == "nothing"
    job = _job(scenario)
    look_ahead()
    job.refresh_from_db()
    assert (outlook_of(job).place, outlook_of(job).reason) == (1, "nothing")
    ahead = outlook_of_new(scenario.charlie.team)
    assert (ahead.place, ahead.reason) == (2, "nothing")
    Worker.objects.update(state="busy")
    TrainingJob.objects.for_team(scenario.team).filter(pk=job.pk).update(
        state=JobState.RUNNING, lease_until=timezone.now(), eta_seconds=40
    )
    look_ahead()
    assert outlook_of_new(scenario.team).reason == "limit"
    other = outlook_of_new(scenario.charlie.team)
    assert (other.place, other.running, other.reason) == (1, 1, "turn")
    assert (other.wait_seconds, other.latest_seconds) == (40, 60)
