"""Settings for the tests: the same as in production, with a fast hasher, mail in memory and actors inline."""

from __future__ import annotations

import tempfile
from pathlib import Path

from config.settings import *  # noqa: F403

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
VAR_DIR = Path(tempfile.gettempdir()) / "lora-foundry-tests"
MAIL_DIR = VAR_DIR / "mail"
RUNS_DIR = VAR_DIR / "runs"
ENGINE_CACHE_DIR = VAR_DIR / "cache"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
# The database of a test is dropped at its end: nobody may still hold it.
DATABASES["default"]["OPTIONS"].pop("pool", None)  # noqa: F405
DRAMATIQ_BROKER = {
    "BROKER": "dramatiq.brokers.stub.StubBroker",
    "OPTIONS": {},
    "MIDDLEWARE": ["dramatiq.middleware.TimeLimit", "dramatiq.middleware.Retries"],
}
# Every answer of the API is held against docs/openapi.yaml; tests/conftest.py fails the test that got a wrong one.
MIDDLEWARE.insert(0, "tests.api.contract.ContractMiddleware")  # noqa: F405
# So many that no test meets them by chance; those of the limits set their own.
RATE_LIMITS = dict.fromkeys(RATE_LIMITS, "1000000/60")  # noqa: F405
SIMULATED_ROUND_SECONDS = 0.0
