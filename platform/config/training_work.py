"""Settings of trainings and their workers: folders, caches, leases, the installation's own limits."""

from __future__ import annotations

import os
from pathlib import Path

import environ

env = environ.FileAwareEnv()

_BASE_DIR = Path(__file__).resolve().parents[2]
_VAR_DIR = Path(env("LF_VAR_DIR", default=str(_BASE_DIR / "var"))).resolve()

RUNS_DIR = _VAR_DIR / "runs"
RUNS_FREE_MB = env.int("LF_RUNS_FREE_MB", default=512)
ENGINE_CACHE_DIR = _VAR_DIR / "cache"
# How long and how much a worker keeps of pictures and of their encoded forms (training/worker_cache.py).
CACHE_DAYS = env.int("LF_CACHE_DAYS", default=30)
CACHE_MAX_GB = env.float("LF_CACHE_MAX_GB", default=50.0)
# What a worker's ready engine may keep of the last base model in memory, in MB; by default a quarter of all there is.
RESIDENT_BASE_MB = env.int(
    "LF_RESIDENT_BASE_MB", default=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 22
)
BASE_MODELS_DIR = Path(env("LF_BASE_MODELS_DIR", default=str(_BASE_DIR / "demo")))
CAPTIONERS_DIR = Path(env("LF_CAPTIONERS_DIR", default=str(_VAR_DIR / "captioners")))
# Where base models lie on a share: so many GB of them are kept on the worker's own disk. 0: read in place.
BASE_CACHE_DIR = _VAR_DIR / "base-models"
BASE_CACHE_GB = env.float("LF_BASE_CACHE_GB", default=0.0)
LEASE_SECONDS = env.int("LF_LEASE_SECONDS", default=60)
LEASE_RENEW_SECONDS = env.int("LF_LEASE_RENEW_SECONDS", default=10)
# The engine gives up this long after its last lease message: before the lease itself can end.
ENGINE_LEASE_SECONDS = env.int("LF_ENGINE_LEASE_SECONDS", default=40)
MAX_CRASHES = 3
TEAM_MAX_RUNNING = env.int("LF_TEAM_MAX_RUNNING", default=2)
TEAM_MAX_QUEUED = env.int("LF_TEAM_MAX_QUEUED", default=50)
