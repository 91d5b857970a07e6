"""The mail reader of a private installation: sign-up and reset links work without a mail server."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from functools import wraps
from typing import Any

from csp.constants import SELF
from csp.decorators import csp_replace
from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from core.http.decorators import public_view
from core.mailbox import Mail, kept_mail, kept_mails

View = Callable[..., HttpResponse]


def local_mail_view(view: View) -> View:
    """Open a page to this machine and to operators, and only where mail is kept in a folder.

    Mails hold links that log somebody in, so another machine of the network is a stranger here.
    """

    @wraps(view)
    def wrapper(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if settings.PRODUCTION or settings.EMAIL_BACKEND != "core.mail.FolderBackend":
            raise Http404
        if not (_is_local(request) or getattr(request.user, "is_staff", False)):
            raise Http404
        return view(request, *args, **kwargs)

    return public_view(require_GET(never_cache(wrapper)))


def _is_local(request: HttpRequest) -> bool:
    # A proxy on this machine speaks for somebody else.
    if request.headers.get("X-Forwarded-For") or request.headers.get("Forwarded"):
        return False
    try:
        return ipaddress.ip_address(request.META.get("REMOTE_ADDR", "")).is_loopback
    except ValueError:
        return False


def _mail(name: str) -> Mail:
    mail = kept_mail(name)
    if mail is None:
        raise Http404
    return mail


@local_mail_view
def mail_list(request: HttpRequest) -> HttpResponse:
    """List the mails of this machine, the latest first."""
    return render(request, "core/mail_list.html", {"mails": kept_mails()})


@local_mail_view
def mail_message(request: HttpRequest, name: str) -> HttpResponse:
    """Show one mail: its HTML in a frame of its own, and its text."""
    return render(request, "core/mail_message.html", {"mail": _mail(name)})


# Mail clients run no scripts and load nothing from outside; nor does this frame.
@local_mail_view  # type: ignore[arg-type]
@csp_replace(  # type: ignore[arg-type]
    {
        "default-src": ["'none'"],
        "script-src": ["'none'"],
        "style-src": ["'unsafe-inline'"],
        "style-src-attr": ["'unsafe-inline'"],
        "img-src": [SELF, "data:"],
        "font-src": ["'none'"],
        "connect-src": ["'none'"],
        "form-action": ["'none'"],
        "frame-ancestors": [SELF],
        "sandbox": [
            "allow-popups",
            "allow-popups-to-escape-sandbox",
            "allow-top-navigation-by-user-activation",
        ],
    }
)
def mail_body(request: HttpRequest, name: str) -> HttpResponse:
    """Give the HTML of one mail, its pictures included; links open in the whole window."""
    address = reverse("core:mail_picture", args=[name, "CID"]).removesuffix("CID")
    html = _mail(name).html_with_pictures(address)
    response = HttpResponse(html.replace("<head>", '<head><base target="_top">', 1))
    response["X-Frame-Options"] = "SAMEORIGIN"
    return response


@local_mail_view
def mail_picture(request: HttpRequest, name: str, cid: str) -> HttpResponse:
    """Give a picture that a mail carries."""
    found = _mail(name).picture(cid)
    if found is None:
        raise Http404
    content, kind = found
    return HttpResponse(content, content_type=kind)
