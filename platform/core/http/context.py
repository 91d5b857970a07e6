"""What every page knows."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest

from core.http.middleware import request_id


def site(request: HttpRequest) -> dict[str, Any]:
    """Give the site's name, the languages and the request's id."""
    return {
        "site_name": settings.SITE_NAME,
        "languages": settings.LANGUAGES,
        "request_id": request_id.get(),
        "mail_is_local": settings.EMAIL_BACKEND == "core.mail.FolderBackend",
    }
