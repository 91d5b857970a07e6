"""A person sets up a webhook in a real browser, sees a test arrive, and hears the bell ring without a reload."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import watched_page
from tests.installation import Installation, running
from tests.notifications.receivers import Reply, receiving, verifies

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

SOON = 60_000  # milliseconds; a limit, not an expectation


class Local(Installation):
    """An installation that may write to receivers on this machine."""

    settings: Mapping[str, str] = {"LF_WEBHOOKS_ALLOW_PRIVATE": "true"}


@pytest.fixture(scope="module")
def site() -> Iterator[Installation]:
    with running(Local) as installation:
        yield installation


@pytest.fixture
def page(browser: Browser, site: Installation) -> Iterator[Page]:
    with watched_page(
        browser,
        base_url=f"http://127.0.0.1:{site.port}",
        viewport={"width": 1280, "height": 900},
        locale="en-US",
    ) as page:
        yield page


def test_a_webhook_is_made_tested_and_given_up_and_the_bell_rings(page: Page) -> None:
    page.goto("/account/signup/")
    page.locator("input[name=email]").fill("dora@example.org")
    page.locator("input[name=name]").fill("Dora")
    page.locator("input[name=password1]").fill("a long and good one")
    page.locator("form[action*=signup] button[type=submit]").click()
    page.wait_for_url(re.compile("/t/"))
    team = re.sub(r"(/t/[^/]+).*", r"\1", page.url)
    gone = False
    with receiving(decide=lambda request, number: Reply(410 if gone else 200)) as receiver:
        page.goto(f"{team}/settings/webhooks/")
        page.get_by_role("link", name="New webhook").first.click()
        page.get_by_label("Address").fill(receiver.url)
        page.get_by_role("button", name="Make webhook").click()
        secret = page.locator("#new-secret-text").inner_text()
        page.get_by_role("button", name="Send test").click()
        row = page.locator("tbody tr", has_text="Test message")
        expect(row).to_be_visible()
        for _reload in range(60):
            if receiver.requests:
                break
            page.wait_for_timeout(500)
        assert verifies(receiver.requests[0], secret)
        page.reload()
        expect(row).to_contain_text("Delivered", timeout=SOON)
        # Now the receiver says that it is gone: the page that is open hears of it.
        gone = True
        page.get_by_role("button", name="Send test").click()
        toast = page.locator(".toast", has_text="was switched off")
        expect(toast).to_be_visible(timeout=SOON)
        expect(page.locator(".bell-count")).to_have_text("1")
        page.locator("#bell > summary").click()
        line = page.locator("#bell .bell-line", has_text="The webhook to 127.0.0.1 was switched off")
        expect(line).to_be_visible()
        line.click()
        expect(page.get_by_text("It was switched off by itself")).to_be_visible()
        expect(page.locator(".bell-count")).to_have_count(0)
