"""`manage.py gpu_worker`: one slot that runs trainings. Start one per GPU (or one for the processor)."""

from __future__ import annotations

import signal
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from training.worker import WorkerSlot


class Command(BaseCommand):
    help = "Run trainings on one GPU, or on the processor where there is none."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--gpu", type=int, default=0, help="which GPU of this machine (default 0)")
        parser.add_argument("--name", default="", help="name of the slot (default: machine and GPU)")

        parser.add_argument(
            "--drain-seconds",
            type=float,
            default=120.0,
            help="how long a running training may take to save when the worker is asked to go (default 120)",
        )

        parser.add_argument(
            "--once",
            type=float,
            metavar="SECONDS",
            help="go when there was nothing to do for so long; for machines that are started by the queue's length",
        )

    def handle(
        self, *, gpu: int, name: str, drain_seconds: float, once: float | None, **options: Any
    ) -> None:
        slot = WorkerSlot(gpu=gpu, name=name, drain_seconds=drain_seconds, once=once)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: slot.draining.set())
        slot.run()
