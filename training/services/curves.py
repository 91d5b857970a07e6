"""Keep the curves of a training: points in chunks, and an outline of the finished chunks for a look at the whole."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from training.models import MetricChunk, MetricOutline, TrainingJob
from training.models.telemetry import CHUNK_POINTS, OUTLINE_CHUNKS, OUTLINE_POINTS

Point = tuple[int, float]
# New points by metric and chunk: step -> value.
Points = Mapping[tuple[str, int], Mapping[int, float]]
# A longer curve is shown by its outline.
CHUNKS_READ_WHOLE = 20


def write_points(job: TrainingJob, points: Points) -> None:
    """Merge new points into their chunks; a step made again after a crash replaces its old value."""
    if not points:
        return
    existing = _chunks(job, points.keys())
    rows = []
    for (metric, number), new in points.items():
        old = existing.get((metric, number))
        merged = dict(zip(old.steps, old.values, strict=True)) if old else {}
        merged.update(new)
        steps = sorted(merged)
        rows.append(
            MetricChunk(
                team=job.team,
                job=job,
                metric=metric[:40],
                chunk=number,
                steps=steps,
                values=[merged[step] for step in steps],
            )
        )
    MetricChunk.objects.bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=["job", "metric", "chunk"],
        update_fields=["steps", "values"],
    )
    _write_outlines(job, rows, known=set(existing))


def curves(job: TrainingJob, most: int) -> dict[str, list[Point]]:
    """Return each metric's points, at most about `most` of them with the peaks kept (three queries)."""
    chunks = MetricChunk.objects.for_team(job.team).filter(job=job)
    outlines = MetricOutline.objects.for_team(job.team).filter(job=job).order_by("metric", "part")
    outlined = list(outlines.values_list("metric", "steps", "values"))
    numbers = list(chunks.order_by("metric", "chunk").values_list("pk", "metric", "chunk"))
    found: dict[str, list[Point]] = defaultdict(list)
    covered: set[tuple[str, int]] = set()
    if max((number for _pk, _metric, number in numbers), default=0) > CHUNKS_READ_WHOLE:
        for metric, steps, values in outlined:
            found[metric].extend(zip(steps, values, strict=True))
            covered |= {(metric, step // CHUNK_POINTS) for step in steps}
    # What no outline holds is read whole: the newest chunk, and those of curves with a point now and then.
    whole = [pk for pk, metric, number in numbers if (metric, number) not in covered]
    rows = chunks.filter(pk__in=whole).order_by("metric", "chunk")
    for metric, steps, values in rows.values_list("metric", "steps", "values"):
        found[metric].extend(zip(steps, values, strict=True))
    return {metric: thin(sorted(points), most) for metric, points in found.items()}


def thin(points: list[Point], most: int) -> list[Point]:
    """Thin a curve to about `most` points, keeping the lowest and highest of each stretch."""
    if len(points) <= most:
        return points
    stretch = -(-2 * len(points) // most)
    kept: list[Point] = []
    for start in range(0, len(points), stretch):
        part = points[start : start + stretch]
        kept.extend(sorted({min(part, key=lambda p: p[1]), max(part, key=lambda p: p[1])}))
    return kept


def _write_outlines(job: TrainingJob, written: list[MetricChunk], known: set[tuple[str, int]]) -> None:
    """Outline the chunk before each one that was begun; a resumed run makes the same points of it again."""
    finished = {
        (row.metric, row.chunk - 1) for row in written if (row.metric, row.chunk) not in known and row.chunk
    }
    if not finished:
        return
    chunks = {(row.metric, row.chunk): row for row in written} | _chunks(job, finished)
    rows = MetricOutline.objects.for_team(job.team).filter(
        job=job,
        metric__in={metric for metric, _number in finished},
        part__in={number // OUTLINE_CHUNKS for _metric, number in finished},
    )
    points = {(row.metric, row.part): dict(zip(row.steps, row.values, strict=True)) for row in rows}
    for metric, number in sorted(finished & chunks.keys()):
        chunk = chunks[metric, number]
        part = points.setdefault((metric, number // OUTLINE_CHUNKS), {})
        part.update(thin(list(zip(chunk.steps, chunk.values, strict=True)), OUTLINE_POINTS))
    MetricOutline.objects.bulk_create(
        [
            MetricOutline(
                team=job.team,
                job=job,
                metric=metric,
                part=part,
                steps=sorted(of_part),
                values=[of_part[step] for step in sorted(of_part)],
            )
            for (metric, part), of_part in points.items()
        ],
        update_conflicts=True,
        unique_fields=["job", "metric", "part"],
        update_fields=["steps", "values"],
    )


def _chunks(job: TrainingJob, wanted: Iterable[tuple[str, int]]) -> dict[tuple[str, int], MetricChunk]:
    pairs = set(wanted)
    rows = MetricChunk.objects.for_team(job.team).filter(
        job=job, metric__in={metric for metric, _ in pairs}, chunk__in={number for _, number in pairs}
    )
    return {(row.metric, row.chunk): row for row in rows}
