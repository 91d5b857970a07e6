"""The page of a picture set in a real browser: uploads that are followed, captions that find them, questions."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Request, Route, expect

from tests.browser import watched_page
from tests.factories import png_bytes
from tests.installation import Installation, running

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

# Waiting times are limits, not expectations: this machine may be doing other things.
SOON = 60_000


@pytest.fixture(scope="module")
def site() -> Iterator[Installation]:
    with running(Installation) as installation:
        yield installation


@pytest.fixture
def page(browser: Browser, site: Installation) -> Iterator[Page]:
    with watched_page(
        browser,
        base_url=f"http://127.0.0.1:{site.port}",
        viewport={"width": 1440, "height": 900},
        locale="en-US",
    ) as page:
        yield page


def test_pictures_get_the_captions_of_their_table_and_go_only_after_a_question(
    page: Page, tmp_path: Path
) -> None:
    open_new_set(page)
    files = pictures(tmp_path, 8)
    table = tmp_path / "metadata.csv"
    rows = "".join(f"images/{file.name},cup {file.stem}\n" for file in [*files, Path("missing.png")])
    table.write_text(f"file_name,text\n{rows}")
    page.locator("input[type=file]").set_input_files([str(table), *map(str, files)])
    expect(page.locator("[data-summary]")).to_contain_text("9 of 9 files", timeout=SOON)
    # One caption is left, and says so.
    left = page.locator("[data-rows]")
    expect(left).to_contain_text("missing.png", timeout=SOON)
    expect(left).to_contain_text("The caption waits for a picture of the same name.")
    expect(page.locator("#included")).to_contain_text("8 pictures", timeout=SOON)
    expect(page.locator(".tile-caption", has_text="cup ")).to_have_count(8)

    page.locator(".tile-select").first.check()
    page.get_by_label("All that are shown here").check()
    page.get_by_role("button", name="Delete", exact=True).click()
    question = page.locator("#delete-pictures")
    expect(question).to_contain_text("8 selected")
    question.get_by_role("button", name="Keep it as it is").click()
    expect(page.locator(".tile")).to_have_count(8)
    page.get_by_role("button", name="Delete", exact=True).click()
    question.get_by_role("button", name="Delete pictures").click()
    expect(page.get_by_text("8 pictures deleted.")).to_be_visible()
    expect(page.locator(".tile")).to_have_count(0)


def test_uploads_that_are_stopped_let_the_next_ones_go(page: Page, tmp_path: Path) -> None:
    open_new_set(page)
    held: set[str] = set()

    def hold_the_first_three(route: Route) -> None:
        """Leave their bytes on the way for ever."""
        if route.request.method == "PATCH" and (route.request.url in held or len(held) < 3):
            held.add(route.request.url)
        else:
            route.continue_()

    page.route("**/uploads/upl_*/", hold_the_first_three)
    seen: set[str] = set()

    def is_the_third(request: Request) -> bool:
        seen.update([request.url] if request.method == "PATCH" else [])
        return len(seen) == 3

    with page.expect_request(is_the_third):
        page.locator("input[type=file]").set_input_files([str(file) for file in pictures(tmp_path, 5)])
    stops = page.locator("[data-rows]").get_by_role("button", name="Stop")
    expect(stops).to_have_count(3)
    for _number in range(3):
        stops.first.click()
    expect(page.locator("#included")).to_contain_text("2 pictures", timeout=SOON)


def open_new_set(page: Page) -> None:
    page.goto("/account/signup/")
    address = f"ines{os.urandom(4).hex()}"
    page.get_by_label("Your name").fill("Ines")
    page.get_by_label("E-mail address").fill(f"{address}@example.org")
    page.get_by_label("Password", exact=True).fill("a long pass phrase")
    page.get_by_label("Team name").fill(address)
    page.get_by_role("button", name="Create account").click()
    expect(page).to_have_url(re.compile(rf"/t/{address}/$"))
    page.goto(f"/t/{address}/projects/new/")
    page.get_by_label("Name").fill("Icons")
    page.get_by_role("button", name="Make project").click()
    page.get_by_role("link", name="New picture set").first.click()
    page.get_by_label("Name").fill("Cups")
    page.get_by_role("button", name="Make picture set").click()
    expect(page.locator(".uploads[data-ready]")).to_be_visible()


def pictures(folder: Path, count: int) -> list[Path]:
    files = [folder / f"{number}.png" for number in range(count)]
    for file in files:
        file.write_bytes(png_bytes((300, 300), file.name))
    return files
