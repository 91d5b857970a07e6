"""A colleague is invited, joins with a second factor and may do what her role says: on a phone, in both languages."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.accounts.doors import code_of
from tests.installation import Installation, running

pytestmark = [pytest.mark.slow, pytest.mark.e2e]
PASSWORD = "a long pass phrase"
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def site() -> Iterator[Installation]:
    with running(Installation) as installation:
        yield installation


@pytest.fixture
def phones(browser: Browser, site: Installation) -> Iterator[tuple[Page, Page]]:
    """Give the owner's phone, in English, and the colleague's, in Chinese."""
    contexts: list[BrowserContext] = []
    faults: list[str] = []
    for language in ("en-US", "zh-CN"):
        context = browser.new_context(
            base_url=f"http://127.0.0.1:{site.port}", viewport=PHONE, locale=language, has_touch=True
        )
        contexts.append(context)
    pages = [context.new_page() for context in contexts]
    for page in pages:
        page.on("pageerror", lambda error: faults.append(str(error)))
    yield pages[0], pages[1]
    for context in contexts:
        context.close()
    assert faults == []


def set_up_second_factor(page: Page, password: str, words: dict[str, str]) -> None:
    page.goto("/account/2fa/totp/activate/")
    if "reauthenticate" in page.url:
        page.locator("input[name=password]").fill(password)
        page.locator("main form button[type=submit]").first.click()
    secret = page.locator("#totp-secret").inner_text()
    page.locator("input[name=code]").fill(code_of(secret))
    page.get_by_role("button", name=words["switch on"]).click()
    expect(page.get_by_role("heading", name=words["codes"])).to_be_visible()


def test_a_colleague_joins_with_a_second_factor_and_may_do_what_her_role_says(
    phones: tuple[Page, Page], site: Installation
) -> None:
    owner, colleague = phones
    sign_up(owner)
    owner.goto("/t/atelier/projects/new/")
    owner.get_by_label("Name").fill("Spring icons")
    owner.get_by_role("button", name="Make project").click()
    set_up_second_factor(owner, PASSWORD, {"switch on": "Switch it on", "codes": "Recovery codes"})
    owner.goto("/t/atelier/settings/")
    owner.get_by_label("Everybody needs a second factor").check()
    owner.get_by_role("button", name="Save").click()
    expect(owner.get_by_text("Saved.").first).to_be_visible()

    owner.goto("/t/atelier/settings/members/?new")
    owner.get_by_label("E-mail address").fill("dora@example.org")
    owner.get_by_role("dialog").get_by_label("Role", exact=True).select_option("viewer")
    owner.get_by_role("button", name="Send invitation").click()
    expect(owner.get_by_text("on its way to dora@example.org").first).to_be_visible()

    colleague.goto(link_in_the_mail(owner))
    expect(colleague.get_by_role("heading", name="加入 Atelier")).to_be_visible()
    fits(colleague)
    colleague.get_by_role("link", name="注册账号").click()
    colleague.locator("input[name=name]").fill("Dora")
    expect(colleague.locator("input[name=email]")).to_have_value("dora@example.org")
    colleague.locator("input[name=password1]").fill(PASSWORD)
    colleague.locator("main form button[type=submit]").first.click()
    # The team shows nothing until she has a second factor.
    expect(colleague).to_have_url(re.compile(r"/account/2fa/$"))
    colleague.goto("/t/atelier/projects/")
    expect(colleague).to_have_url(re.compile(r"/account/2fa/$"))
    set_up_second_factor(colleague, PASSWORD, {"switch on": "启用", "codes": "恢复码"})

    colleague.goto("/t/atelier/projects/")
    fits(colleague)
    expect(colleague.get_by_text("Spring icons")).to_be_visible()
    expect(colleague.get_by_role("link", name="新建项目")).to_have_count(0)
    assert status_of(colleague, "/t/atelier/projects/new/") == 403
    assert status_of(colleague, "/t/atelier/settings/keys/") == 403

    # The owner makes her an editor: it holds at once.
    owner.goto("/t/atelier/settings/members/")
    owner.get_by_label("Role of Dora").select_option("editor")
    expect(owner.get_by_text("It holds at once.").first).to_be_visible()
    fits(owner)
    colleague.goto("/t/atelier/projects/")
    expect(colleague.get_by_role("link", name="新建项目").first).to_be_visible()
    assert status_of(colleague, "/t/atelier/settings/audit/") == 403


def sign_up(page: Page) -> None:
    page.goto("/account/signup/")
    page.get_by_label("Your name").fill("Ines")
    page.get_by_label("E-mail address").fill("ines@example.org")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_label("Team name").fill("Atelier")
    page.get_by_role("button", name="Create account").click()
    expect(page).to_have_url(re.compile(r"/t/atelier/$"))


def link_in_the_mail(page: Page) -> str:
    """Read the invitation in the mail that this installation keeps, as its operator does."""
    page.goto("/dev/mail/")
    link = page.locator("main a", has_text="Atelier").first
    for _try in range(30):
        if link.count():
            break
        page.wait_for_timeout(1000)  # the worker sends it
        page.reload()
    link.click()
    page.get_by_text("As plain text").click()
    found = re.search(r"https?://\S+/invitations/\S+/", page.locator("main").inner_text())
    assert found, page.locator("main").inner_text()
    return re.sub(r"^https?://[^/]+", "", found.group())


def fits(page: Page) -> None:
    """Check that nothing is wider than the phone."""
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def status_of(page: Page, path: str) -> int:
    return page.request.get(path, max_redirects=0).status
