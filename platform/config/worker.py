"""The entry of the short-job workers: `dramatiq config.worker --queues default mail media webhooks`."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

# Only now: these import models.
import dramatiq  # noqa: E402

from core.outbox import load_short_jobs  # noqa: E402

# `kill -USR2` prints what every thread does: a worker that takes nothing can be asked why. Not to `sys.stderr`, which
# dramatiq made a pipe of framed messages.
faulthandler.register(signal.SIGUSR2, file=sys.__stderr__ or sys.stderr, all_threads=True)
load_short_jobs()
broker = dramatiq.get_broker()
