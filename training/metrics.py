"""What Prometheus is told of the queue."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric

from training.queue.overview import queue_overview


def queue_metrics() -> Iterator[Metric]:
    """Yield the queue by plan and kind, what jobs wait for, workers by state, and the last day's failures by code."""
    found = queue_overview()
    waiting = GaugeMetricFamily("lf_jobs_waiting", "Jobs that wait", labels=["plan", "kind"])
    running = GaugeMetricFamily("lf_jobs_running", "Jobs that a worker is busy with", labels=["plan", "kind"])
    oldest = GaugeMetricFamily(
        "lf_oldest_wait_seconds", "How long the oldest job waits", labels=["plan", "kind"]
    )
    waits = GaugeMetricFamily(
        "lf_wait_seconds",
        "Waits of the jobs that started in the last day",
        labels=["plan", "kind", "quantile"],
    )
    for line in found.plans:
        waiting.add_metric([line.key, line.kind.value], line.waiting)
        running.add_metric([line.key, line.kind.value], line.running)
        oldest.add_metric([line.key, line.kind.value], line.oldest)
        for quantile, seconds in (("0.5", line.wait_p50), ("0.9", line.wait_p90)):
            if seconds is not None:
                waits.add_metric([line.key, line.kind.value, quantile], float(seconds))
    yield from (waiting, running, oldest, waits)
    reasons = GaugeMetricFamily("lf_jobs_waiting_for", "Jobs by what they wait for", labels=["reason"])
    for reason, count in found.reasons.items():
        reasons.add_metric([reason.value], count)
    workers = GaugeMetricFamily("lf_workers", "Workers by state", labels=["state"])
    for state, count in sorted(found.worker_states.items()):
        workers.add_metric([state], count)
    failures = GaugeMetricFamily("lf_failures_of_a_day", "Jobs that failed in the last day", labels=["code"])
    for code, count in found.failures:
        failures.add_metric([code], count)
    yield from (reasons, workers, failures)
