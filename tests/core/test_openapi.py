"""The OpenAPI document in docs/ is what the code says."""

from __future__ import annotations

from pathlib import Path

from django.core.management import call_command

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "openapi.yaml"


def test_the_committed_document_is_current(tmp_path: Path) -> None:
    fresh = tmp_path / "openapi.yaml"
    call_command("spectacular", file=str(fresh), fail_on_warn=True, validate=True)
    assert fresh.read_text() == DOCUMENT.read_text(), "run: manage.py spectacular --file docs/openapi.yaml"
