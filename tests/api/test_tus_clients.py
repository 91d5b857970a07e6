"""Two public clients of tus against a whole installation, with the network cut and the server killed: a small file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.e2e
def test_uploads_survive_a_cut_network_and_a_killed_server() -> None:
    # The installation has servers of its own, not those of the tests.
    hidden = ("DATABASE_URL", "REDIS_URL", "PYTEST_", "DJANGO_SETTINGS_MODULE", "LF_")
    found = subprocess.run(
        [sys.executable, "-m", "bench.tus", "--megabytes", "8"],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith(hidden)},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert found.stdout.count("ok   ") == 3
