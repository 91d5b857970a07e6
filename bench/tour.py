"""Walk every page and take its picture at 1440 and 390 px, light and dark, in both languages: `python -m bench.tour`.

Starts the whole platform in a folder of its own and lets the demo train. The pictures of a page stand together on
two sheets, one a width. What a machine can see is checked as well: faults in the console, pages wider than the
screen, pictures that do not load, English left over in Chinese. Needs what `make test` installs, and a Chromium.

    python -m bench.tour --out /tmp/tour            every page
    python -m bench.tour --out /tmp/tour dataset    pages with a name that holds this word
    python -m bench.tour --out /tmp/tour --paid     with payments on: the pages of money too
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import sys
from itertools import product
from pathlib import Path

from django.core.management import call_command
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "platform")]

from bench.stops import Stop, furnish, pay  # noqa: E402
from tests.browser import launch  # noqa: E402
from tests.installation import Installation, WholeInstallation  # noqa: E402
from tests.stripe_server import StripeServer  # noqa: E402

WIDTHS = {1440: 900, 390: 844}
THEMES = ("light", "dark")
LANGUAGES = ("en", "zh-hans")
# A mail speaks its reader's own language, whatever the browser's is.
# Programmers' pages speak English.
WRITTEN_IN_ENGLISH = {"mail body", "api docs"}
WRITTEN_BY_PEOPLE = ("Dora Maar", "Three ways to draw the same icons", "Pastel sticker", "“Pastel sticker")
TALLEST = 2600  # pixels of a page that are shown on its sheet

LEFT_OVER = """() => {
  const found = new Set()
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const holder = node.parentElement
    if (holder.closest('script, style, code, pre, kbd, body [lang], option')) continue
    if (/[a-z]{3,} [a-z]{2,} [a-z]{2,}/i.test(node.textContent)) found.add(node.textContent.trim().slice(0, 80))
  }
  return [...found]
}"""
UNFOLD = "document.querySelectorAll('details.fold').forEach((fold) => { fold.open = true })"
TOO_WIDE = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
BROKEN = "[...document.images].filter((i) => i.complete && !i.naturalWidth && i.src).map((i) => i.src)"


class Tour:
    """Visits stops in a browser and keeps what it saw."""

    def __init__(
        self, browser: Browser, origin: str, cookies: list[dict[str, str]], password: str, out: Path
    ) -> None:
        self.browser, self.origin, self.cookies, self.out = browser, origin, cookies, out
        self.password = password
        self.told: list[str] = []  # by the page at hand
        self.faults: list[str] = []
        self.pictures: dict[tuple[str, int], list[Image.Image]] = {}

    def visit(self, stops: list[Stop]) -> None:
        for width, theme, language in product(WIDTHS, THEMES, LANGUAGES):
            for logged_in in (True, False):
                context = self.browser.new_context(
                    base_url=self.origin, viewport={"width": width, "height": WIDTHS[width]}, locale="en-US"
                )
                choices = {"theme": theme, "django_language": language}
                context.add_cookies(
                    [{"name": name, "value": value, "url": self.origin} for name, value in choices.items()]
                )
                if logged_in:
                    context.add_cookies(self.cookies)  # type: ignore[arg-type]
                page = context.new_page()
                if logged_in:
                    self._confirm(page)
                page.on("pageerror", lambda error: self.told.append(str(error)))
                page.on("console", lambda line: self.told.append(line.text) if line.type == "error" else None)
                for stop in stops:
                    if stop.logged_in is logged_in:
                        self._look(page, stop, width, f"{stop.name} {width} {theme} {language}")
                context.close()

    def _confirm(self, page: Page) -> None:
        """Say the password again: some pages ask for it when the last time is five minutes ago."""
        page.goto("/account/reauthenticate/?next=/profile/")
        page.locator("input[name=password]").fill(self.password)
        page.locator("form[action*=reauthenticate] button[type=submit]").click()
        page.wait_for_url(re.compile("/profile/"))

    def _look(self, page: Page, stop: Stop, width: int, label: str) -> None:
        self.told.clear()
        answer = page.goto(stop.address)
        page.wait_for_timeout(250)  # milliseconds: the live connection opens, the curve is drawn
        page.evaluate(UNFOLD)
        told = [line for line in self.told if stop.status == 200 or "Failed to load" not in line]
        if answer is None or answer.status != stop.status:
            told.append(f"status {answer and answer.status}")
        if (wider := page.evaluate(TOO_WIDE)) > 0:
            told.append(f"{wider} px wider than the screen")
        told += [f"broken picture {source}" for source in page.evaluate(BROKEN)]
        if "zh" in label and stop.name not in WRITTEN_IN_ENGLISH:
            left_over = page.evaluate(LEFT_OVER)
            told += [f"English: {w!r}" for w in left_over if not w.startswith(WRITTEN_BY_PEOPLE)]
        self.faults += [f"{label}: {line}" for line in told]
        shot = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
        self.pictures.setdefault((stop.name, width), []).append(
            shot.crop((0, 0, shot.width, min(shot.height, TALLEST)))
        )

    def write_sheets(self) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        for (name, width), shots in self.pictures.items():
            columns = 2 if width > 1000 else 4
            scale = 0.6 if width > 1000 else 1.0
            small = [shot.resize((int(shot.width * scale), int(shot.height * scale))) for shot in shots]
            gap = 16
            cell = (small[0].width + gap, max(shot.height for shot in small) + gap)
            rows = -(-len(small) // columns)
            sheet = Image.new("RGB", (cell[0] * columns, cell[1] * rows), (255, 0, 255))
            for number, shot in enumerate(small):
                sheet.paste(shot, (cell[0] * (number % columns), cell[1] * (number // columns)))
            sheet.save(self.out / f"{re.sub('[^a-z0-9]+', '-', name)}-{width}.png")


class Visited(WholeInstallation):
    """Everything, and a login of another service, so that its buttons are seen."""

    settings = {
        "LF_OIDC_NAME": "Studio login",
        "LF_OIDC_SERVER_URL": "https://login.example.org",
        "LF_OIDC_CLIENT_ID": "tour",
        "LF_OIDC_SECRET": "tour",
    }


def session_of(platform: Installation, login: dict[str, str]) -> list[dict[str, str]]:
    """Log in through the form and return the browser's cookies."""
    origin = f"http://127.0.0.1:{platform.port}"
    with sync_playwright() as playwright:
        page = launch(playwright).new_page()
        page.goto(f"{origin}/account/login/")
        page.locator("input[name=login]").fill(login["email"])
        page.locator("input[name=password]").fill(login["password"])
        page.locator("form[action='/account/login/'] button[type=submit]").click()
        page.wait_for_url(re.compile("/t/"))
        session = next(c["value"] for c in page.context.cookies() if c["name"] == "sessionid")  # type: ignore[typeddict-item]
        return [{"name": "sessionid", "value": session, "url": origin}]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--paid", action="store_true", help="take payments, with our own Stripe server")
    parser.add_argument("words", nargs="*")
    options = parser.parse_args()
    stripe = StripeServer(webhook_secret="whsec_tour") if options.paid else None
    if stripe is not None:
        stripe.start()
        Visited.settings = {
            **Visited.settings,
            "STRIPE_SECRET_KEY": "sk_test_tour",
            "STRIPE_WEBHOOK_SECRET": "whsec_tour",
            "STRIPE_API_BASE": stripe.url,
        }
    platform = Visited()
    os.environ.update(
        LF_VAR_DIR=str(platform.var), DJANGO_SETTINGS_MODULE="config.settings", **Visited.settings
    )
    try:
        platform.wait_until_ready()
        login: dict[str, str] = json.loads((platform.var / "demo.json").read_text())
        # Before there is a second factor.
        cookies = session_of(platform, login)
        stops = furnish(platform)
        if stripe is not None:
            call_command("stripe_sync")
            stops += pay(stripe)
        wanted = [s for s in stops if not options.words or any(word in s.name for word in options.words)]
        with sync_playwright() as playwright:
            origin = f"http://127.0.0.1:{platform.port}"
            tour = Tour(launch(playwright), origin, cookies, login["password"], options.out)
            tour.visit(wanted)
        tour.write_sheets()
    finally:
        platform.stop()
        if stripe is not None:
            stripe.stop()
    print("\n".join(tour.faults))
    print(f"{len(wanted)} pages, {len(tour.faults)} faults; sheets in {options.out}")
    return 1 if tour.faults else 0


if __name__ == "__main__":
    sys.exit(main())
