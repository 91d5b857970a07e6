"""Mark what kind of door a view is. Every URL carries exactly one mark; a test refuses a view without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from django.contrib.auth.decorators import login_not_required

View = TypeVar("View", bound=Callable[..., Any])


def public_view(view: View) -> View:
    """Mark a page that anyone may open."""
    view.door = "public"  # type: ignore[attr-defined]
    return login_not_required(view)


def machine_view(view: View) -> View:
    """Mark an endpoint that checks its own credential (the API, health, signed links)."""
    view.door = "machine"  # type: ignore[attr-defined]
    return login_not_required(view)
