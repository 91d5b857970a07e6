"""Where a request comes from, as the trusted proxies in front saw it."""

from __future__ import annotations

from allauth.account.adapter import get_adapter
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest


def address_of(request: HttpRequest) -> str:
    """Return the address a request comes from, "" where none is known (a server behind a socket)."""
    try:
        return str(get_adapter().get_client_ip(request))
    except PermissionDenied:
        return ""
