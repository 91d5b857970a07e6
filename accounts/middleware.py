"""What every request of a person brings along: their time, the mark of their session, and logins elsewhere."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from urllib.parse import urlsplit
from zoneinfo import ZoneInfoNotFoundError

from allauth.socialaccount.models import SocialApp
from allauth.usersessions.models import UserSession
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from requests import RequestException

from accounts.models import User
from accounts.sessions import TRACKED
from core.http.errors import not_found

log = logging.getLogger(__name__)

Answer = Callable[[HttpRequest], HttpResponse]

SEEN_EVERY = 60.0
_MOST_REMEMBERED = 20_000


def person_of(request: HttpRequest) -> User | None:
    """Return who is logged in; programs and visitors without a session cost no query."""
    if settings.SESSION_COOKIE_NAME not in request.COOKIES or request.path.startswith("/api/"):
        return None
    return request.user if isinstance(request.user, User) else None


class TimeZoneMiddleware:
    """Show times in the person's time zone; programs always read UTC."""

    def __init__(self, get_response: Answer) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        person = person_of(request)
        if person is None or person.time_zone == "UTC":
            return self.get_response(request)
        try:
            with timezone.override(person.time_zone):
                return self.get_response(request)
        except ZoneInfoNotFoundError:  # this machine's list of zones is older than the one it was chosen from
            return self.get_response(request)


class LastSeenMiddleware:
    """Note when and from where a session was last used, at most once a minute in each process.

    allauth's own does it with three queries at every request.
    """

    def __init__(self, get_response: Answer) -> None:
        self.get_response = get_response
        self._noted: OrderedDict[str, float] = OrderedDict()
        self._lock = Lock()

    def __call__(self, request: HttpRequest) -> HttpResponse:
        person = person_of(request)
        if person is not None and request.session.get(TRACKED):
            self._note(request, request.session.session_key or "")
        return self.get_response(request)

    def _note(self, request: HttpRequest, key: str) -> None:
        moment = time.monotonic()
        with self._lock:
            if moment - self._noted.get(key, float("-inf")) < SEEN_EVERY:
                return
            self._noted[key] = moment
            self._noted.move_to_end(key)
            if len(self._noted) > _MOST_REMEMBERED:
                self._noted.popitem(last=False)
        UserSession.objects.filter(session_key=key).update(
            last_seen_at=timezone.now(), ip=_address_of(request)
        )


def _address_of(request: HttpRequest) -> str:
    from allauth.account.adapter import get_adapter

    return str(get_adapter().get_client_ip(request))


class SocialLoginMiddleware:
    """Lead from a form to another site by a page, and hide login services that are not set up.

    Browsers hold a form to the policy's `form-action` through every redirect that follows, so that a login that
    passes several hosts of a company would be blocked. A page that leads on starts afresh.
    """

    def __init__(self, get_response: Answer) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if request.method == "POST" and response.status_code in {302, 303}:
            target = urlsplit(response["Location"])
            if target.netloc and target.netloc != request.get_host():
                onward = render(
                    request,
                    "socialaccount/login_redirect.html",
                    {"redirect_to": response["Location"], "host": target.hostname},
                )
                onward.cookies = response.cookies
                return onward
        return response

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        if isinstance(error, SocialApp.DoesNotExist):
            return not_found(request)
        match = request.resolver_match
        if (
            isinstance(error, RequestException)
            and match
            and str(match.url_name).endswith(("_login", "_callback"))
        ):
            log.warning("the login service does not answer: %s", error)
            return render(request, "socialaccount/authentication_error.html", status=502)
        return None
