"""Pages that belong to no app: the choice of language and theme, and the style guide of this installation."""

from __future__ import annotations

from urllib.parse import quote

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import render
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_GET, require_POST

from core.http.decorators import public_view

YEAR = 365 * 24 * 3600
THEMES = ("system", "light", "dark")


def back(request: HttpRequest) -> HttpResponseRedirect:
    """Return to the page in `next`, if it is one of ours."""
    address = request.POST.get("next", "")
    if not url_has_allowed_host_and_scheme(address, {request.get_host()}, require_https=request.is_secure()):
        address = "/"
    response = HttpResponseRedirect(address)
    response.status_code = 303
    return response


def remember(response: HttpResponseBase, name: str, value: str) -> None:
    """Keep a choice of this browser for a year."""
    response.set_cookie(name, value, max_age=YEAR, samesite="Lax", secure=settings.PRODUCTION)


@public_view
@require_POST
def theme(request: HttpRequest) -> HttpResponse:
    """Choose light, dark or the system's theme. Browsers with scripts do it without this address."""
    response = back(request)
    if request.POST.get("theme") in THEMES:
        remember(response, "theme", request.POST["theme"])
    return response


@public_view
@require_GET
def styleguide(request: HttpRequest) -> HttpResponse:
    """Show every component in every state; not in production."""
    if settings.PRODUCTION:
        raise Http404
    return render(
        request, "core/styleguide.html", {"pictures": [_picture(hue) for hue in range(20, 380, 60)]}
    )


def _picture(hue: int) -> str:
    """Return a small landscape as a data address, so that the style guide has something to show."""
    svg = (
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 80 80'>"
        f"<rect width='80' height='80' fill='hsl({hue} 55% 78%)'/>"
        f"<circle cx='56' cy='24' r='10' fill='hsl({hue + 40} 90% 90%)'/>"
        f"<path d='M0 60 22 34 40 54 58 38 80 62V80H0Z' fill='hsl({hue + 10} 40% 46%)'/>"
        f"<path d='M0 70 30 54 80 74V80H0Z' fill='hsl({hue + 20} 45% 28%)'/></svg>"
    )
    return f"data:image/svg+xml,{quote(svg)}"
