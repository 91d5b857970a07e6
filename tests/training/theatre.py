"""A running training that is watched: for tests of what follows it live."""

from __future__ import annotations

from pathlib import Path

from django.db import transaction
from django.utils import timezone

from accounts.roles import Can
from accounts.services.api_keys import NewKey, create_api_key
from tests.scenario import Scenario, make_scenario
from tests.training.queueing import Bench
from training.engine import events as told
from training.models import TrainingJob
from training.queue.lease import Lease
from training.services import lifecycle, telemetry


class Theatre:
    """Hold a running job, and a key that may follow it."""

    def __init__(self) -> None:
        self.scenario: Scenario = make_scenario()
        bench = Bench(self.scenario.alice)
        self.job: TrainingJob = bench.job()
        self.lease: Lease = bench.claim()
        self.topic = f"training:{self.job.uid}"
        self.key: NewKey = create_api_key(
            actor=self.scenario.alice, name="stream", scopes=[Can.TRAINING_VIEW]
        )

    def say(self, *words: str) -> None:
        """Store log events as a worker does."""
        rows = [(told.Log("info", word), timezone.now()) for word in words]
        telemetry.record(self.lease, Path("/nowhere"), rows)

    def cancel(self) -> None:
        """End the training."""
        with transaction.atomic():
            lifecycle.cancel_job_now(lifecycle.hold(self.lease))
