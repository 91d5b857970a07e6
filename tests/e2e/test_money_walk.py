"""A team's way with money, in a browser and in both languages: limit, upgrade, receipt, spend limit, top-up, goodbye.

The worker's part is played by the services that a worker calls, so that hours of training take no time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from playwright.sync_api import Browser, Page, expect

from billing.models import BillingAccount, Plan
from billing.selectors import charged_for
from billing.services.ledger import funds_of, hold
from tests.billing.till import Till, open_till
from tests.scenario import Scenario, make_scenario
from tests.training.queueing import Bench, fresh, make_worker
from training.models import Attempt, TrainingJob
from training.queue.budget import rest_spent_jobs
from training.queue.claim import claim_next
from training.queue.lease import Lease
from training.services import lifecycle

pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.django_db(transaction=True)]

WORDS = {
    "en": {
        "limit": "This team has started 1 of its 1 trainings of this month. The plan “Pro” allows it.",
        "try": "Try 7 days free",
        "choose": "Choose",
        "saved": "Saved. It holds at once.",
        "receipt": "Receipt",
        "paid": "Paid",
        "resume": "Resume",
        "reached": "The team's spend limit is reached.",
        "short": "left under your spend limit",
        "ends": "It ends on",
        "cancel": "Cancel the plan",
        "yes": "Change it",
        "takes": "of GPU time you have",
    },
    "zh": {
        "limit": "团队本月已开始 1 次训练，共 1 次。 套餐“Pro”可以满足。",
        "try": "免费试用 7 天",
        "choose": "选择",
        "saved": "已保存，立即生效。",
        "receipt": "收据",
        "paid": "已付",
        "resume": "继续",
        "reached": "已达到团队的支出上限。",
        "short": "在您的支出上限内还剩",
        "ends": "套餐将于",
        "cancel": "取消套餐",
        "yes": "更改",
        "takes": "GPU 时间中的",
    },
}


@pytest.fixture(scope="module", autouse=True)
def _beside_the_browsers_loop() -> Iterator[None]:
    """Let the database be used in this thread, where the browser's own loop runs; nobody else uses it here."""
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    yield
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture
def shop(settings: Any, transactional_db: None) -> Iterator[Till]:
    with open_till(settings) as till:
        yield till


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_team_meets_its_limit_pays_is_paused_goes_on_and_leaves(
    browser: Browser, live_server: Any, shop: Till, settings: Any, language: str
) -> None:
    settings.SITE_URL = live_server.url
    words = WORDS[language]
    scenario = make_scenario()
    scenario.alice.user.language = {"en": "en", "zh": "zh-hans"}[language]
    scenario.alice.user.save()
    theirs, bench = Bench(scenario.charlie, name="Theirs"), Bench(scenario.alice)
    Plan.objects.filter(key="free").update(trainings_a_month=1)
    context = browser.new_context(
        base_url=live_server.url,
        viewport={"width": 390, "height": 844},
        locale={"en": "en-US", "zh": "zh-CN"}[language],
    )
    page = context.new_page()
    try:
        log_in(page, scenario)
        first = bench.job()

        # The month is used up, and the page says so beside the button, with what would help.
        page.goto("/t/atelier/trainings/new/")
        expect(page.get_by_text(words["limit"])).to_be_visible()
        assert TrainingJob.objects.for_team(scenario.team).count() == 1

        # Others wait longer; with the new plan the team's job moves ahead at once.
        theirs.job(waited=300)
        pay(page, shop, words["try"])
        assert plan_of(scenario) == "pro"
        lease = claim_next(make_worker())
        assert lease is not None
        assert lease.job_uid == first.uid
        ran_for(lease, 40)
        lifecycle.cancel_job_now(fresh(first))

        # The receipt of the training and the invoice of the plan.
        page.goto(f"/t/atelier/trainings/{first.uid}/")
        expect(page.get_by_role("heading", name=words["receipt"])).to_be_visible()
        assert charged_for(scenario.team, first.uid) == 40
        page.goto("/t/atelier/settings/plan/")
        expect(page.get_by_text(words["paid"]).first).to_be_visible()
        fits(page)

        # The trial ends; only a plan that is paid may be invoiced beyond itself.
        shop.server.control("advance", seconds=8 * 86_400)
        shop.deliver()

        # A spend limit, which a training meets when the month's GPU time is gone.
        hold(scenario.team, job_uid="trn_other", seconds=funds_of(scenario.team).total)
        page.locator("input[name=amount]").fill("0.10")
        page.locator("form[action$='/limit/'] button[type=submit]").click()
        expect(page.get_by_text(words["saved"]).first).to_be_visible()
        page.goto("/t/atelier/trainings/new/")
        expect(page.get_by_text(words["takes"])).to_be_visible()
        second = bench.job()
        run = claim_next(make_worker())
        assert run is not None
        assert run.job_uid == second.uid
        ran_for(run, funds_of(scenario.team).overage + 100)
        for _round in range(3):
            rest_spent_jobs()
        assert fresh(second).rest_reason == "spend_limit_reached"
        lifecycle.pause_job_now(fresh(second))
        page.goto(f"/t/atelier/trainings/{second.uid}/")
        expect(page.get_by_text(words["reached"])).to_be_visible()
        page.get_by_role("button", name=words["resume"]).first.click()
        expect(page.get_by_text(words["short"]).first).to_be_visible()

        # Bought time lets it go on.
        page.goto("/t/atelier/settings/plan/")
        page.locator("button[value='gpu-60']").click()
        page.get_by_role("button", name="Pay").click()
        page.wait_for_url("**/settings/plan/")
        assert funds_of(scenario.team).bought == 3600
        page.goto(f"/t/atelier/trainings/{second.uid}/")
        page.get_by_role("button", name=words["resume"]).first.click()
        expect(page.get_by_text(words["reached"])).to_have_count(0)
        assert fresh(second).state == "queued"

        # A larger plan at once, a smaller one later, and goodbye.
        choose(page, "team", words)
        assert plan_of(scenario) == "team"
        choose(page, "pro", words)
        assert BillingAccount.objects.for_team(scenario.team).get().next_plan_id is not None
        choose(page, "free", words)
        expect(page.get_by_text(words["ends"])).to_be_visible()
        fits(page)
        shop.server.control("advance", seconds=40 * 86_400)
        shop.deliver()
        assert plan_of(scenario) == "free"
    finally:
        context.close()


def log_in(page: Page, scenario: Scenario) -> None:
    page.goto("/account/login/")
    page.locator("input[name=login]").fill(scenario.alice.user.email)
    page.locator("input[name=password]").fill("correct horse")
    page.locator("input[name=password]").press("Enter")
    page.wait_for_url("**/t/atelier/")


def pay(page: Page, shop: Till, button: str) -> None:
    page.goto("/t/atelier/settings/plan/")
    page.get_by_role("button", name=button).click()
    page.get_by_role("button", name="Pay").click()
    page.wait_for_url("**/settings/plan/")
    shop.deliver()


def choose(page: Page, key: str, words: dict[str, str]) -> None:
    page.goto("/t/atelier/settings/plan/")
    page.locator(f"button[name=plan][value={key}]").click()
    page.get_by_role("button", name=words["yes"], exact=True).click()
    page.wait_for_url("**/settings/plan/")


def plan_of(scenario: Scenario) -> str:
    return str(BillingAccount.objects.for_team(scenario.team).select_related("plan").get().plan.key)


def ran_for(lease: Lease, seconds: float) -> None:
    began = timezone.now() - timedelta(seconds=seconds)
    Attempt.objects.for_team(lease.team).filter(job_id=lease.job_id, ended_at=None).update(started_at=began)


def fits(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
