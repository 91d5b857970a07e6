"""Curves of any length: every point is kept, and a long curve is shown by its outline."""

from __future__ import annotations

import math
from typing import Any

import pytest
from django.db import connection

from tests.scenario import Scenario
from tests.training.queueing import Bench
from training.models import MetricChunk, MetricOutline, TrainingJob
from training.services.curves import CHUNKS_READ_WHOLE, curves, write_points


@pytest.fixture
def job(scenario: Scenario) -> TrainingJob:
    return Bench(scenario.alice).job()


def value(step: int) -> float:
    return 99.0 if step == 12_345 else -7.0 if step == 40_001 else math.sin(step / 900)


def learn(job: TrainingJob, first: int, last: int, *, stride: int = 250) -> None:
    """Write the steps from `first` to before `last` as a worker does: a few at a time."""
    for start in range(first, last, stride):
        points: dict[tuple[str, int], dict[int, float]] = {}
        for step in range(start, min(last, start + stride)):
            points.setdefault(("loss", step // 1000), {})[step] = value(step)
        write_points(job, points)


def test_a_short_curve_is_shown_point_by_point(job: TrainingJob) -> None:
    learn(job, 0, 1_200)
    assert curves(job, 1500) == {"loss": [(step, value(step)) for step in range(1_200)]}


def test_a_long_curve_keeps_its_peaks_its_ends_and_every_point_in_store(
    job: TrainingJob, django_assert_max_num_queries: Any
) -> None:
    learn(job, 0, 45_500, stride=500)
    assert MetricChunk.objects.for_team(job.team).count() == 46 > CHUNKS_READ_WHOLE
    with django_assert_max_num_queries(3):
        shown = curves(job, 1500)["loss"]
    assert len(shown) <= 1500
    assert shown == sorted(shown)
    assert (12_345, 99.0) in shown
    assert (40_001, -7.0) in shown
    assert shown[0][0] < 1_000
    assert shown[-1][0] > 45_490
    assert sum(len(row.steps) for row in MetricChunk.objects.for_team(job.team)) == 45_500
    (outline,) = MetricOutline.objects.for_team(job.team)
    assert len(outline.steps) <= 45 * 8


def test_a_curve_with_a_point_now_and_then_is_whole_beside_a_long_one(job: TrainingJob) -> None:
    learn(job, 0, 30_000, stride=500)
    steps = list(range(0, 12_000, 1_500))  # some chunks are skipped, and it ends long before the other
    for step in steps:
        write_points(job, {("held_out", step // 1000): {step: 0.5}})
    assert curves(job, 1500)["held_out"] == [(step, 0.5) for step in steps]


def test_a_run_that_goes_back_leaves_one_outline_of_each_chunk(job: TrainingJob) -> None:
    learn(job, 0, 25_000, stride=500)
    before = curves(job, 1500)
    learn(job, 21_000, 25_000, stride=500)
    assert curves(job, 1500) == before


def test_a_million_points_take_fifteen_bytes_each(job: TrainingJob) -> None:
    """Measured on a tenth of them: bytes a point do not depend on how many there are."""
    points = {
        ("loss", chunk): {step: value(step) for step in range(chunk * 1000, chunk * 1000 + 1000)}
        for chunk in range(100)
    }
    write_points(job, points)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT sum(pg_column_size(c.*)) FROM training_metricchunk c WHERE job_id = %s", [job.pk]
        )
        (size,) = cursor.fetchone()
    assert size / 100_000 <= 15
