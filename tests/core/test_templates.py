"""What holds for every template: known icons, no inline script, no visible word that cannot be translated."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from django.template.loader import get_template

from core.templatetags.ui import STATES, _drawings

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = sorted((ROOT / "templates").rglob("*.html"))
NAMES = [str(path.relative_to(ROOT / "templates")) for path in TEMPLATES]
# For those who build pages; never shown to users.
FOR_BUILDERS = {"core/styleguide.html"}
# What programs write or read is the same everywhere.
SILENT = {"script", "style", "code", "pre", "c-copy", "svg"}
SPOKEN_ATTRIBUTES = {
    "title",
    "text",
    "label",
    "placeholder",
    "alt",
    "aria-label",
    "help",
    "note",
    "reason",
    "yes",
}
# Names and signs that are the same in every language.
SAME_EVERYWHERE = re.compile(
    r"LoRA Foundry|Load LoRA|LoRA|Ctrl K|Esc|API|YAML|GPU|URL|JSON|ComfyUI|diffusers|A1111|Forge|SHA-256|px"
)

_COMMENT = re.compile(r"{%\s*comment.*?endcomment\s*%}|{#.*?#}|<!--.*?-->", re.S)
_CLASSES = re.compile(r"{%\s*block \w+_class\s*%}.*?{%\s*endblock")
_TRANSLATED = re.compile(r"{%\s*(blocktrans|blocktranslate)\b.*?{%\s*end\1\s*%}", re.S)
_TAG = re.compile(r"{%.*?%}|{{.*?}}", re.S)
_LETTERS = re.compile(r"[^\W\d_]{2,}")


class _Words(HTMLParser):
    """Collect the words that a reader would see or hear."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in SILENT:
            self._silent += 1
        self.found += [value for name, value in attrs if name in SPOKEN_ATTRIBUTES and value]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name in SPOKEN_ATTRIBUTES and value]

    def handle_endtag(self, tag: str) -> None:
        if tag in SILENT and self._silent:
            self._silent -= 1

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.found.append(data)


def untranslated(source: str) -> list[str]:
    """Return the visible words of a template that no translation tag surrounds."""
    for pattern in (_COMMENT, _CLASSES, _TRANSLATED, _TAG):
        source = pattern.sub(" ", source)
    words = _Words()
    words.feed(source)
    texts = (SAME_EVERYWHERE.sub(" ", re.sub(r"&\w+;", " ", text)).strip() for text in words.found)
    return [text for text in texts if _LETTERS.search(text)]


def test_the_check_finds_bare_words_and_lets_translated_ones_pass() -> None:
    assert untranslated('<p title="Bare">{% trans "Fine" %} and bare</p>') == ["Bare", "and bare"]
    assert untranslated("{% blocktrans %}Fine{% endblocktrans %}<code>--flag</code>{# note #}") == []


@pytest.mark.parametrize("name", [name for name in NAMES if name not in FOR_BUILDERS])
def test_every_visible_word_can_be_translated(name: str) -> None:
    assert untranslated((ROOT / "templates" / name).read_text()) == []


@pytest.mark.parametrize("name", NAMES)
def test_every_template_compiles(name: str) -> None:
    get_template(name)


def test_templates_hold_no_inline_script_or_handler() -> None:
    # The content security policy forbids both: they would fail in the browser, silently.
    scripts = re.compile(r"<script(?![^>]*\b(src=|type=\"application/json\"))|\son[a-z]+=|hx-on|hx-vals=.js:")
    found = [name for name, path in zip(NAMES, TEMPLATES, strict=True) if scripts.search(path.read_text())]
    assert found == []


def test_every_icon_that_a_template_names_exists() -> None:
    known = _drawings()
    assert len(known) > 1000
    named = {icon for _tone, icon in STATES.values()}
    for path in TEMPLATES:
        source = _COMMENT.sub("", path.read_text())
        named |= set(re.findall(r"{%\s*icon\s+[\"']([a-z0-9-]+)[\"']", source))
        named |= set(re.findall(r"<c-[^>]*?\sicon=\"([a-z0-9-]+)\"", source))
    assert sorted(named - set(known)) == []
