"""The operators' pages of billing and the queue speak Chinese: apps, models, columns, filters and fields."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.admin.utils import flatten_fieldsets, label_for_field
from django.test import Client, RequestFactory
from django.utils import translation

from accounts.models import User
from tests.scenario import Scenario
from tests.training.queueing import Bench

APPS = ("billing", "training")
PAGES = sorted(
    (page for model, page in admin.site._registry.items() if model._meta.app_label in APPS),
    key=lambda page: page.model._meta.label_lower,
)
CHINESE = re.compile("[\u4e00-\u9fff]")


@pytest.fixture
def operator(db: None) -> User:
    return User.objects.create_superuser("root@example.org", "a long pass phrase")


def shown(page: Any, request: Any) -> dict[str, str]:
    """Return the label of every column and every field of a page, of its inlines too."""
    labels = {name: label_for_field(name, page.model, page) for name in getattr(page, "list_display", ())}
    form = page.get_formset(request).form if hasattr(page, "get_formset") else page.get_form(request)
    given = form._meta.labels or {}
    for name in flatten_fieldsets(page.get_fieldsets(request)):
        labels[name] = given.get(name) or label_for_field(name, page.model, page)
    return {name: str(label) for name, label in labels.items()}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.model._meta.label_lower)
def test_every_name_on_an_operators_page_is_chinese(page: Any, operator: User) -> None:
    request = RequestFactory().get("/")
    request.user = operator
    with translation.override("zh-hans"):
        meta = page.model._meta
        words = {"": f"{meta.verbose_name}", "s": f"{meta.verbose_name_plural}", **shown(page, request)}
        words["app"] = str(apps.get_app_config(meta.app_label).verbose_name)
        for inline in page.get_inline_instances(request):
            words[inline.model.__name__] = str(inline.model._meta.verbose_name_plural)
            words |= {
                f"{inline.model.__name__}.{name}": each for name, each in shown(inline, request).items()
            }
        assert {name: each for name, each in words.items() if not CHINESE.search(each)} == {}


def test_the_page_of_a_job_is_chinese_for_its_operator(operator: User, scenario: Scenario) -> None:
    job = Bench(scenario.alice).job()
    client = Client()
    client.force_login(operator)
    client.cookies["django_language"] = "zh-hans"
    listed = client.get("/admin/training/trainingjob/").content.decode()
    assert [word in listed for word in ("团队", "排队时间", "底模")] == [True, True, True]
    page = client.get(f"/admin/training/trainingjob/{job.pk}/change/").content.decode()
    labels = [" ".join(text.split()) for text in re.findall(r"<label[^>]*>(.*?)</label>", page, re.S)]
    assert len(labels) > 50
    assert [text for text in labels if not CHINESE.search(text)] == []
