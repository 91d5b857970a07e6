"""The ways in, in a real browser under the real content security policy: an app, a passkey, and another service."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.accounts.doors import code_of
from tests.accounts.oidc_provider import CLIENT_ID, SECRET, OpenIdProvider, running_provider
from tests.browser import watched_page
from tests.installation import Installation, running

pytestmark = [pytest.mark.slow, pytest.mark.e2e]
PASSWORD = "a long pass phrase"


@pytest.fixture(scope="module")
def provider() -> Iterator[OpenIdProvider]:
    with running_provider() as provider:
        provider.claims = {
            "sub": "7",
            "email": "hannah@example.org",
            "email_verified": True,
            "name": "Hannah",
        }
        yield provider


@pytest.fixture(scope="module")
def site(provider: OpenIdProvider) -> Iterator[Installation]:
    class WithOtherLogin(Installation):
        settings = {
            "LF_OIDC_NAME": "Studio login",
            "LF_OIDC_SERVER_URL": provider.url,
            "LF_OIDC_CLIENT_ID": CLIENT_ID,
            "LF_OIDC_SECRET": SECRET,
        }

    with running(WithOtherLogin) as installation:
        yield installation


@pytest.fixture
def page(browser: Browser, site: Installation) -> Iterator[Page]:
    # Browsers bind keys to a name: an address of numbers is none.
    with watched_page(
        browser, base_url=f"http://localhost:{site.port}", locale="en-US", timezone_id="Asia/Shanghai"
    ) as page:
        yield page


def sign_up(page: Page, email: str) -> None:
    page.goto("/account/signup/")
    page.get_by_label("Your name").fill("Ines")
    page.get_by_label("E-mail address").fill(email)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Create account").click()
    expect(page).to_have_url(re.compile(r"/t/"))


def log_out(page: Page) -> None:
    page.goto("/account/logout/")
    page.locator("main").get_by_role("button", name="Log out").click()
    expect(page).to_have_url(re.compile(r"/account/login/"))


def log_in(page: Page, email: str) -> None:
    page.get_by_label("E-mail address").fill(email)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Log in", exact=True).click()


def confirm(page: Page) -> None:
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Go on").click()


def with_virtual_key(page: Page) -> None:
    """Plug a key into the browser that answers by itself (the WebAuthn domain of Chrome's DevTools protocol)."""
    devtools = page.context.new_cdp_session(page)
    devtools.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
    }
    devtools.send("WebAuthn.addVirtualAuthenticator", {"options": options})


def test_a_passkey_is_made_and_opens_alone_and_as_the_second_factor(page: Page) -> None:
    with_virtual_key(page)
    sign_up(page, "ines@example.org")
    page.goto("/account/2fa/webauthn/add/")
    confirm(page)
    page.get_by_label("Name").fill("This laptop")
    page.get_by_label("Use it as a passkey").check()
    page.get_by_role("button", name="Add the key").click()
    expect(page.get_by_role("heading", name="Recovery codes")).to_be_visible()
    expect(page.locator("#recovery-codes")).to_have_text(re.compile(r"^(\d{8}\s*){10}$"))
    page.goto("/account/2fa/webauthn/")
    expect(page.get_by_text("This laptop").first).to_be_visible()

    log_out(page)
    page.get_by_role("button", name="Log in with a passkey").click()
    expect(page).to_have_url(re.compile(r"/t/"))

    log_out(page)
    log_in(page, "ines@example.org")
    page.get_by_role("button", name="Use a security key").click()
    expect(page).to_have_url(re.compile(r"/t/"))


def test_an_app_is_set_up_from_the_picture_and_asked_for(page: Page) -> None:
    sign_up(page, "app@example.org")
    page.goto("/profile/")
    expect(page.get_by_label("Time zone")).to_have_value("Asia/Shanghai")
    page.goto("/account/2fa/totp/activate/")
    confirm(page)
    picture = page.get_by_alt_text("QR code for your authenticator app")
    assert picture.evaluate("picture => picture.complete && picture.naturalWidth > 0")
    secret = page.locator("#totp-secret").inner_text()
    page.get_by_label("Type the six digits").fill(code_of(secret, -1))
    page.get_by_role("button", name="Switch it on").click()
    expect(page.get_by_role("heading", name="Recovery codes")).to_be_visible()
    log_out(page)
    log_in(page, "app@example.org")
    page.get_by_label("Code").fill(code_of(secret))
    page.get_by_role("button", name="Log in", exact=True).click()
    expect(page).to_have_url(re.compile(r"/t/"))


def test_a_login_elsewhere_leads_there_and_back(page: Page) -> None:
    page.goto("/account/login/")
    page.get_by_role("button", name="Go on with Studio login").click()
    expect(page).to_have_url(re.compile(r"/t/hannahs-team"))


def test_an_address_of_numbers_says_why_keys_do_not_work_there(site: Installation, page: Page) -> None:
    numbers = f"http://127.0.0.1:{site.port}"
    page.goto(f"{numbers}/account/login/")
    expect(page.get_by_role("button", name="Log in with a passkey")).to_be_hidden()
    page.goto(f"{numbers}/account/signup/")
    page.get_by_label("Your name").fill("Nora")
    page.get_by_label("E-mail address").fill("nora@example.org")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Create account").click()
    page.goto(f"{numbers}/account/2fa/webauthn/add/")
    confirm(page)
    expect(page.get_by_text("This browser cannot use security keys here.")).to_be_visible()
