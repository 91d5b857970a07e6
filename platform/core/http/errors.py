"""Turn a DomainError that a page raises into a page, or into a message for htmx."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render

from core.api.errors import problem
from core.errors import DomainError, NotFound


class DomainErrorMiddleware:
    """Answer a DomainError with its status: a page, a toast for htmx, or JSON where JSON was asked for."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        if not isinstance(error, DomainError):
            return None
        if "application/json" in request.headers.get("Accept", ""):
            return _problem(error)
        if error.status == 404:
            return render(request, "errors/404.html", status=404)
        if error.status == 403:
            return render(request, "errors/403.html", {"error": error}, status=403)
        return render(request, "errors/problem.html", {"error": error}, status=error.status)


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """Answer a request that no page can understand."""
    if request.path.startswith("/api/"):
        error = DomainError("bad_request", "This request cannot be understood.")
        error.status = 400
        return _problem(error)
    return render(request, "400.html", status=400)


def _problem(error: DomainError) -> JsonResponse:
    return JsonResponse(problem(error), status=error.status, content_type="application/problem+json")


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """Answer an address that is not there."""
    if request.path.startswith("/api/"):
        return _problem(NotFound())
    return render(request, "errors/404.html", status=404)


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer a fault of ours; the template uses nothing that could fail again."""
    if request.path.startswith("/api/"):
        error = DomainError("internal", "Something went wrong on our side. Try again later.")
        error.status = 500
        return _problem(error)
    return render(request, "errors/500.html", status=500)
