"""Captions written automatically, in a real browser beside a real worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import watched_page
from tests.e2e.test_picture_set import open_new_set, pictures
from tests.installation import Installation, running

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

# A limit, not an expectation: this machine may be doing other things.
SOON = 90_000


class WithWorker(Installation):
    """A training worker, and no demo."""

    options = ("--no-demo",)


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with (
        running(WithWorker) as site,
        watched_page(
            browser,
            base_url=f"http://127.0.0.1:{site.port}",
            viewport={"width": 1440, "height": 900},
            locale="en-US",
        ) as page,
    ):
        yield page


def test_captions_are_written_while_one_watches_and_the_grid_follows(page: Page, tmp_path: Path) -> None:
    open_new_set(page)
    page.locator("input[type=file]").set_input_files(list(map(str, pictures(tmp_path, 4))))
    expect(page.locator("#included")).to_contain_text("4 pictures", timeout=SOON)
    expect(page.locator(".tile-caption", has_text="No caption")).to_have_count(4)
    # One of them, chosen in the grid.
    page.locator(".tile-select").first.check()
    page.get_by_role("button", name="Caption automatically").click()
    expect(page.get_by_text("1 picture", exact=True)).to_be_visible()
    page.get_by_role("button", name="Write captions").click()
    expect(page.locator(".order")).to_contain_text("1 caption written", timeout=SOON)
    # The grid is drawn again by itself, without a reload.
    expect(page.locator(".tile-caption", has_text="square format")).to_have_count(1)
    expect(page.locator(".tile-caption", has_text="No caption")).to_have_count(3)
    # Then all that have none.
    page.get_by_role("link", name="Caption automatically").click()
    page.get_by_label("Words at most").fill("50")
    page.get_by_role("button", name="Write captions").click()
    expect(page.locator(".order").first).to_contain_text("3 captions written", timeout=SOON)
    expect(page.locator(".tile-caption", has_text="square format")).to_have_count(4)
