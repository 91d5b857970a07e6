"""`/metrics` for Prometheus: what each app knows of its own, counted when it is asked.

    register(queue_metrics)      # in AppConfig.ready; returns prometheus_client's metric families

Everything comes from the database, so that any web process gives the same answer. Only with the right token
(`LF_METRICS_TOKEN`, sent as `Authorization: Bearer`); without one set there is no such page.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Iterator

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.http import require_GET
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from core.http.decorators import machine_view
from core.models import DutyRun, OutboxMessage

Source = Callable[[], Iterable[Metric]]

_sources: list[Source] = []


def register(source: Source) -> None:
    """Have `source` asked whenever the metrics are read; the same one twice is asked once."""
    if source not in _sources:
        _sources.append(source)


@machine_view
@require_GET
def metrics(request: HttpRequest) -> HttpResponse:
    """Show every metric of this installation to who has the token."""
    token = settings.METRICS_TOKEN
    given = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if not token or not hmac.compare_digest(given.encode(), token.encode()):
        raise Http404
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Everything())
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


class _Everything(Collector):
    def collect(self) -> Iterator[Metric]:
        for source in (_own, *_sources):
            yield from source()


def _own() -> Iterator[Metric]:
    runs = CounterMetricFamily("lf_duty_runs", "Times that a recurring duty was run", labels=["duty"])
    failures = CounterMetricFamily("lf_duty_failures", "Times that a recurring duty failed", labels=["duty"])
    seconds = CounterMetricFamily("lf_duty_seconds", "Seconds spent in a recurring duty", labels=["duty"])
    last = GaugeMetricFamily(
        "lf_duty_last_run_timestamp_seconds", "When a duty was run last", labels=["duty"]
    )
    for row in DutyRun.objects.order_by("name"):
        runs.add_metric([row.name], row.runs)
        failures.add_metric([row.name], row.failures)
        seconds.add_metric([row.name], row.seconds)
        last.add_metric([row.name], row.last_at.timestamp())
    yield from (runs, failures, seconds, last)
    waiting = OutboxMessage.objects.filter(done_at=None).count()
    yield GaugeMetricFamily("lf_outbox_waiting", "Short jobs that are not done yet", value=waiting)
