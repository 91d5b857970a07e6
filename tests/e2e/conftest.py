"""One browser for the tests of a file; a page that fails its test when the console shows an error."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser import CHROMIUM, launch


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        if os.environ.get("CI"):
            pytest.fail("no Chromium, although .ci/run installs one")
        pytest.skip("no Chromium on this machine: .ci/run installs one")
    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()
