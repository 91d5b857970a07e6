"""`manage.py tick`: the clock of the installation. Start as many as you like: one is active, the others stand by."""

from __future__ import annotations

import signal
import threading
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from core.outbox import load_short_jobs
from core.periodic import Clock, duties, perform


class Command(BaseCommand):
    help = "Run recurring duties: leases, queue, retention, retries."
    requires_system_checks: list[str] = []  # `doctor` and the tests run them; a clock should start at once

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--once", action="store_true", help="run every duty once and exit")
        parser.add_argument("--list", action="store_true", help="show the duties and exit")

    def handle(self, *, once: bool, list: bool, **options: Any) -> None:
        if list:
            for duty in duties():
                self.stdout.write(f"{duty.seconds:>8g} s  {duty.name}")
            return
        load_short_jobs()
        if once:
            for duty in duties():
                perform(duty)
            return
        stopping = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stopping.set())
        Clock().run(stopping)
