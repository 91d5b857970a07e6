"""Let an operator see what a person sees: with a reason, for half an hour, under a banner, and in every log.

The session stays the operator's. While it lasts `request.user` is the person and `request.operator` the operator;
the person's own account (password, second factor, profile), keys, webhooks, members and the team's end stay out of
reach (`accounts.actor.NOT_FOR_OPERATORS`), and every change says who did it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.access import actors_of
from accounts.actor import operator_email
from accounts.models import User
from accounts.services.audit import audit
from core.errors import DomainError, NotFound

LASTS = timedelta(minutes=30)
_KEY = "acting_as"
# The person's own things, and the operator's.
_OUT_OF_REACH = ("/account/", "/profile/", "/admin/", "/teams/", "/invitations/", "/api/")
# Seen, and left as it is: what the person has read, and what they want mail about.
_ONLY_READ = ("/notifications/",)


def may_operate(user: Any) -> bool:
    """Tell whether `user` may act as somebody else."""
    return isinstance(user, User) and user.is_active and user.is_superuser


def begin(request: HttpRequest, *, person: User, reason: str) -> None:
    """Begin to act as `person`; raise DomainError without a reason, NotFound for operators and for who is gone."""
    if not reason.strip():
        raise DomainError("reason_missing", _("Say why: the person's team can read it."), pointer="/reason")
    if not person.is_active or person.is_staff:
        raise NotFound
    assert isinstance(request.user, User)
    until = timezone.now() + LASTS
    token = operator_email.set(request.user.email)
    try:
        with transaction.atomic():
            for actor in actors_of(person):
                audit(
                    actor,
                    "operator.acting_begun",
                    person,
                    reason=reason.strip()[:500],
                    until=until.isoformat(),
                )
    finally:
        operator_email.reset(token)
    request.session[_KEY] = {"user": person.pk, "until": until.isoformat()}


def end(request: HttpRequest) -> None:
    """Be oneself again."""
    request.session.pop(_KEY, None)


class OperatorMiddleware:
    """Put the person in the operator's place while it lasts, and ask operators for their second factor."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request.operator = None  # type: ignore[attr-defined]
        acting = request.session.get(_KEY)
        if acting is None:
            return self._as_oneself(request)
        operator = request.user
        person = User.objects.filter(pk=acting["user"], is_active=True).first()
        is_over = datetime.fromisoformat(acting["until"]) <= timezone.now()
        if person is None or is_over or not may_operate(operator):
            end(request)
            return self._as_oneself(request)
        if request.path == reverse("accounts:acting_end"):
            return self.get_response(request)
        changes = request.method not in {"GET", "HEAD"}
        if request.path.startswith(_OUT_OF_REACH) or (changes and request.path.startswith(_ONLY_READ)):
            raise PermissionDenied("An operator who acts as a person does not reach this.")
        assert isinstance(operator, User)
        request.user = person
        request.operator = operator  # type: ignore[attr-defined]
        token = operator_email.set(operator.email)
        try:
            return self.get_response(request)
        finally:
            operator_email.reset(token)

    def _as_oneself(self, request: HttpRequest) -> HttpResponse:
        user = request.user
        operates = request.path.startswith(("/admin/", "/operate/"))
        if (
            operates
            and settings.OPERATORS_NEED_TWO_FACTOR
            and isinstance(user, User)
            and user.is_staff
            and not user.has_second_factor
        ):
            messages.warning(request, _("Operators need a second factor. Set one up, then come back."))
            return redirect("mfa_index")
        return self.get_response(request)


def back_to_admin() -> HttpResponseRedirect:
    """Lead back to where operators are."""
    return HttpResponseRedirect(reverse("admin:index"), status=303)
