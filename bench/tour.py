"""Walk every page and take its picture at 1440 and 390 px, light and dark, in both languages: `python -m bench.tour`.

Starts the whole platform in a folder of its own and lets the demo train. The pictures of a page stand together on
two sheets, one a width. What a machine can see is checked as well: faults in the console, pages wider than the
screen, pictures that do not load, English left over in Chinese. Needs what `make test` installs, and a Chromium.

    python -m bench.tour --out /tmp/tour            every page
    python -m bench.tour --out /tmp/tour dataset    pages with a name that holds this word
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import sys
import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "platform")]

from core.processes import wait_until  # noqa: E402
from tests.browser import launch  # noqa: E402
from tests.installation import Installation, WholeInstallation  # noqa: E402

WIDTHS = {1440: 900, 390: 844}
THEMES = ("light", "dark")
LANGUAGES = ("en", "zh-hans")
# A mail speaks its reader's own language, whatever the browser's is.
# Programmers' pages speak English.
WRITTEN_IN_ENGLISH = {"mail body", "api docs"}
WRITTEN_BY_PEOPLE = ("Three ways to draw the same icons", "Pastel sticker", "“Pastel sticker")
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
TOO_WIDE = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
BROKEN = "[...document.images].filter((i) => i.complete && !i.naturalWidth && i.src).map((i) => i.src)"


@dataclass(frozen=True)
class Stop:
    """Name a page, its address, and who looks at it."""

    name: str
    address: str
    logged_in: bool = True
    status: int = 200


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


def guard(person: Any) -> int:
    """Give `person` recovery codes and a security key, two devices more, and return the key's number."""
    from allauth.mfa.models import Authenticator
    from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
    from allauth.usersessions.models import UserSession
    from django.conf import settings
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
    from django.contrib.sessions.backends.db import SessionStore

    from tests.accounts.doors import FIREFOX, IPHONE, SoftwareKey

    RecoveryCodes.activate(person)
    credential = SoftwareKey().create({"user": {"id": ""}, "rp": {"id": "localhost"}, "challenge": ""})
    data = {"name": "Blue key", "credential": json.loads(credential)}
    for agent in (FIREFOX, IPHONE):
        session = SessionStore()
        session.update(
            {SESSION_KEY: str(person.pk), BACKEND_SESSION_KEY: settings.AUTHENTICATION_BACKENDS[0]}
        )
        session[HASH_SESSION_KEY] = person.get_session_auth_hash()
        session.create()
        UserSession.objects.create(
            user=person, session_key=session.session_key, ip="203.0.113.7", user_agent=agent
        )
    return int(Authenticator.objects.create(user=person, type="webauthn", data=data).pk)


def furnish(platform: Installation) -> list[Stop]:
    """Wait for the demo's training, leave a job in every other state, and return every page there is to see."""
    import django

    django.setup()
    from django.db import transaction

    from accounts.access import actor_for
    from accounts.models import User
    from projects.models import Dataset, Item, LoraModel, Project
    from training.management.commands.seed_demo import EMAIL, TEAM
    from training.models import TrainingJob
    from training.services.control import cancel_job, pause_job
    from training.services.jobs import create_job
    from training.states import JobState

    actor = actor_for(User.objects.get(email=EMAIL), TEAM)
    jobs = TrainingJob.objects.for_team(actor.team)
    while (done := jobs.earliest("pk")).state != JobState.SUCCEEDED:
        if done.is_finished:
            raise RuntimeError(f"the demo training ended {done.state}: {done.error_message}")
        time.sleep(1)

    def another(name: str) -> TrainingJob:
        return create_job(
            actor=actor,
            dataset_version=done.dataset_version,
            foundation_model=done.foundation_model,
            template="style",
            name=name,
            trigger="pastel style",
            prompts=["a cat", "a rocket"],
        )

    # In one transaction, so that no worker sees them before they are what they shall be.
    with transaction.atomic():
        cancel_job(actor=actor, job=another("Given up"))
        paused = pause_job(actor=actor, job=another("For later"))
        failed = cancel_job(actor=actor, job=another("Too fast"))
        jobs.filter(pk=failed.pk).update(
            state=JobState.FAILED,
            error_code="diverged",
            error_category="user",
            error_message="Training diverged twice, at last before step 40.",
            error_hint="Lower the learning rate to a quarter and start again.",
            error_patch={"/training/learning_rate": 0.00025},
        )
    project = Project.objects.for_team(actor.team).get()
    dataset = Dataset.objects.for_team(actor.team).get(pk=done.dataset_version.dataset_id)
    item = Item.objects.for_team(actor.team).filter(dataset=dataset).earliest("pk")
    model = LoraModel.objects.for_team(actor.team).get()
    if not wait_until(lambda: any((platform.var / "mail").glob("*")), timeout=30):
        raise RuntimeError("no mail came")
    mail = next((platform.var / "mail").iterdir()).stem
    key = guard(actor.user)
    team = f"/t/{TEAM}"
    pages = {
        "home": "/",
        "projects": "/projects/",
        "project": f"/projects/{project.uid}/",
        "project new": "/projects/new/",
        "project change": f"/projects/{project.uid}/change/",
        "dataset": f"/datasets/{dataset.uid}/",
        "dataset new": f"/projects/{project.uid}/datasets/new/",
        "dataset change": f"/datasets/{dataset.uid}/change/",
        "picture": f"/items/{item.uid}/",
        "upload log": f"/datasets/{dataset.uid}/uploads/log/",
        "trainings": "/trainings/",
        "training new": f"/trainings/new/?dataset={dataset.uid}",
        "training new, nothing chosen": "/trainings/new/",
        "training succeeded": f"/trainings/{done.uid}/",
        "training failed": f"/trainings/{failed.uid}/",
        "training paused": f"/trainings/{paused.uid}/",
        "base models": "/base-models/",
        "models": "/models/",
        "model": f"/models/{model.uid}/",
        "settings": "/settings/",
        "members": "/settings/members/",
        "keys": "/settings/keys/",
        **told(actor),
        "not found": "/projects/prj_0/",
    }
    mine = {
        "profile": "/profile/",
        "notifications": "/notifications/",
        "notifications preferences": "/notifications/preferences/",
        "email": "/account/email/",
        "password change": "/account/password/change/",
        "second factor": "/account/2fa/",
        "second factor app": "/account/2fa/totp/activate/",
        "second factor keys": "/account/2fa/webauthn/",
        "second factor key new": "/account/2fa/webauthn/add/",
        "second factor key name": f"/account/2fa/webauthn/keys/{key}/edit/",
        "second factor key remove": f"/account/2fa/webauthn/keys/{key}/remove/",
        "second factor codes": "/account/2fa/recovery-codes/",
        "second factor codes new": "/account/2fa/recovery-codes/generate/",
        "ask again": "/account/reauthenticate/",
        "ask again code": "/account/2fa/reauthenticate/",
        "sessions": "/account/sessions/",
        "connected logins": "/account/3rdparty/",
        "delete account": "/profile/delete/",
        "logout": "/account/logout/",
        "mails": "/dev/mail/",
        "mail": f"/dev/mail/{mail}/",
        "mail body": f"/dev/mail/{mail}/body/",
    }
    anybody = {
        "login": "/account/login/",
        "signup": "/account/signup/",
        "password reset": "/account/password/reset/",
        "password reset done": "/account/password/reset/done/",
        "password reset key": "/account/password/reset/key/1-nonsense/",
        "verification sent": "/account/confirm-email/",
        "other login": "/account/oidc/sso/login/",
        "other login cancelled": "/account/3rdparty/login/cancelled/",
        "other login failed": "/account/3rdparty/login/error/",
        "account deleted": "/profile/deleted/",
        "api docs": "/api/docs/",
    }
    status = {"not found": 404, "other login failed": 401}
    return [
        *(Stop(name, team + address, status=status.get(name, 200)) for name, address in pages.items()),
        *(Stop(name, address) for name, address in mine.items()),
        *(Stop(name, address, logged_in=False) for name, address in anybody.items()),
    ]


def told(actor: Any) -> dict[str, str]:
    """Make a webhook with a log of every kind and return its pages."""
    from accounts.models import User
    from notifications.events import EventType, Subject
    from notifications.kinds import Kind
    from notifications.models import Delivery
    from notifications.services.deliveries import Outcome, record
    from notifications.services.notify import tell
    from notifications.services.webhooks import create_endpoint, emit

    made = create_endpoint(
        actor=actor, url="https://hooks.example.org/lora", description="Nightly tests"
    ).endpoint
    chat = create_endpoint(actor=actor, url="https://hooks.slack.com/services/T0/B0/x", kind="slack").endpoint
    outcomes = (
        Outcome(200, "ok", "", 84),
        Outcome(302, "", "Redirects are not followed. Enter the final address: https://www.example.org/", 31),
        Outcome(error="No answer within 15 seconds.", duration_ms=15_003),
    )
    page = f"/t/{actor.team.slug}/"
    for outcome in outcomes:
        emit(actor.team, EventType.TRAINING_SUCCEEDED, Subject("trn_1", "training", "Pastel sticker", page))
        rows = Delivery.objects.for_team(actor.team).select_related("endpoint", "event", "team")
        record(rows.filter(endpoint=made).latest("pk"), outcome)
    shown = Delivery.objects.for_team(actor.team).filter(endpoint=made).latest("pk")
    lines = (
        (Kind.MEMBER_JOINED, "Dora", ""),
        (Kind.TRAINING_CANCELED, "Pastel sticker", "Dora"),
        (Kind.WEBHOOK_DISABLED, chat.host, ""),
    )
    for kind, name, who in lines:
        subject = Subject(chat.uid, "webhook_endpoint", name, page)
        tell(
            team=actor.team, kind=kind, people=User.objects.filter(pk=actor.user.pk), subject=subject, who=who
        )
    base = "/settings/webhooks/"
    return {
        "webhooks": base,
        "webhook new": f"{base}new/",
        "webhook": f"{base}{made.uid}/",
        "webhook delivery": f"/settings/deliveries/{shown.uid}/",
    }


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
    parser.add_argument("words", nargs="*")
    options = parser.parse_args()
    platform = Visited()
    os.environ.update(LF_VAR_DIR=str(platform.var), DJANGO_SETTINGS_MODULE="config.settings")
    try:
        platform.wait_until_ready()
        login: dict[str, str] = json.loads((platform.var / "demo.json").read_text())
        # Before there is a second factor.
        cookies = session_of(platform, login)
        stops = furnish(platform)
        wanted = [s for s in stops if not options.words or any(word in s.name for word in options.words)]
        with sync_playwright() as playwright:
            origin = f"http://127.0.0.1:{platform.port}"
            tour = Tour(launch(playwright), origin, cookies, login["password"], options.out)
            tour.visit(wanted)
        tour.write_sheets()
    finally:
        platform.stop()
    print("\n".join(tour.faults))
    print(f"{len(wanted)} pages, {len(tour.faults)} faults; sheets in {options.out}")
    return 1 if tour.faults else 0


if __name__ == "__main__":
    sys.exit(main())
