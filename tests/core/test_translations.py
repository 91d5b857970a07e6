"""The Chinese catalogue is complete, and scripts show no words of their own."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted((ROOT / "frontend" / "src").rglob("*.ts"))


@pytest.fixture(scope="module")
def extraction() -> dict[str, Any]:
    """Return the functions of bin/extract-translations."""
    return runpy.run_path(str(ROOT / "bin" / "extract-translations"), run_name="extract_translations")


def test_the_extraction_finds_texts_of_templates_and_python(extraction: dict[str, Any]) -> None:
    texts = {message.id for message in extraction["extract"]()}
    assert "Skip to content" in texts  # a template
    assert "Your role in this team does not allow this. Ask an admin of the team." in texts  # Python
    assert ("%(n)s day", "%(n)s days") in texts  # a plural


@pytest.mark.parametrize("language", ["zh_Hans"])
def test_the_catalogue_is_in_step_with_the_sources(extraction: dict[str, Any], language: str) -> None:
    wanted, there = (
        extraction["keys"](extraction["extract"]()),
        extraction["keys"](extraction["read"](language)),
    )
    # `bin/extract-translations` brings new texts in; then they need a translation.
    assert sorted(map(str, wanted - there)) == []
    assert sorted(map(str, there - wanted)) == []


@pytest.mark.parametrize("language", ["zh_Hans"])
def test_every_text_is_translated_and_keeps_its_placeholders(
    extraction: dict[str, Any], language: str
) -> None:
    complaints = runpy.run_path(str(ROOT / "bin" / "check-translations"), run_name="check")["complaints"]
    bad = {str(m.id): complaints(m) for m in extraction["read"](language) if m.id and complaints(m)}
    assert bad == {}


@pytest.mark.django_db
def test_a_page_in_chinese_is_chinese(client: Client) -> None:
    client.cookies["django_language"] = "zh-hans"
    page = client.get("/account/login/").content.decode()
    assert "欢迎回来" in page
    assert "Welcome back" not in page


@pytest.mark.django_db
def test_error_pages_follow_the_language(client: Client) -> None:
    client.cookies["django_language"] = "zh-hans"
    answer = client.get("/nothing/here/")
    assert answer.status_code == 404
    assert "这里什么都没有" in answer.content.decode()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.name))
def test_scripts_take_their_words_from_the_page(script: Path) -> None:
    spoken = re.compile(
        r"(?:\.(?:textContent|innerText|title|ariaLabel|placeholder)\s*=|\btoast\()\s*"
        r"(?:'[^'\n]*[A-Za-z]{3,}[^'\n]*'|\"[^\"\n]*[A-Za-z]{3,}|`[^`$]*[A-Za-z]{3,})"
    )
    assert [match[0] for match in spoken.finditer(script.read_text())] == []


def test_every_text_that_a_script_asks_for_is_given_by_a_template() -> None:
    asked = {name for path in SCRIPTS for name in re.findall(r"\btext\(\s*'([a-z_-]+)'", path.read_text())}
    templates = "".join(path.read_text() for path in (ROOT / "templates").rglob("*.html"))
    given = set(re.findall(r"data-text-([a-z_-]+)=", templates))
    assert asked
    assert sorted(asked - given) == []
