"""Act as a person: for operators, from the admin."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from accounts.impersonation import LASTS, back_to_admin, begin, end, may_operate
from accounts.models import User
from accounts.web import account_view
from core.errors import DomainError, NotFound


@account_view
@require_http_methods(["GET", "POST"])
def acting_begin(request: HttpRequest, uid: str) -> HttpResponse:
    """Ask for the reason, then go on as the person."""
    person = User.objects.filter(uid=uid).first()
    if person is None or not may_operate(request.user):
        raise NotFound
    error = ""
    if request.method == "POST":
        try:
            begin(request, person=person, reason=request.POST.get("reason", ""))
        except DomainError as refused:
            if isinstance(refused, NotFound):
                raise
            error = refused.message
        else:
            return redirect("home")
    context = {"person": person, "minutes": int(LASTS.total_seconds() // 60), "error": error}
    return render(request, "accounts/acting_begin.html", context, status=422 if error else 200)


@account_view
@require_POST
def acting_end(request: HttpRequest) -> HttpResponse:
    """Be oneself again."""
    end(request)
    return back_to_admin()
