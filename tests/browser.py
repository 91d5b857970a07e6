"""The machine's own Chromium, headless, for the tests and measurements that need a real page."""

from __future__ import annotations

import shutil

from playwright.sync_api import Browser, Playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# As root there is no sandbox, and a closed network must not be asked for updates.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def launch(playwright: Playwright) -> Browser:
    """Start the browser; raise RuntimeError where the machine has none."""
    if CHROMIUM is None:
        raise RuntimeError("No Chromium on this machine: .ci/run installs one.")
    return playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
