"""The entry of the short-job workers: `dramatiq config.worker --queues default mail media webhooks`."""

from __future__ import annotations

import faulthandler
import os
import signal

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

# Only now: these import models.
import dramatiq  # noqa: E402
from django.utils.module_loading import autodiscover_modules  # noqa: E402

# `kill -USR2` prints what every thread does: a worker that takes nothing can be asked why.
faulthandler.register(signal.SIGUSR2, all_threads=True)
autodiscover_modules("tasks")
broker = dramatiq.get_broker()
