"""End one session of the person's; allauth's page lists them and ends all the others at once."""

from __future__ import annotations

from allauth.usersessions.internal.flows.sessions import end_sessions
from allauth.usersessions.models import UserSession
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from accounts.web import account_view
from core.errors import NotFound


@account_view
@require_POST
def profile_session_end(request: HttpRequest, pk: int) -> HttpResponse:
    """Log one device out."""
    session = UserSession.objects.filter(user_id=request.user.pk, pk=pk).first()
    if session is None:
        raise NotFound
    end_sessions(request, [session])
    if not request.user.is_authenticated:
        return HttpResponseRedirect(reverse("account_login"), status=303)
    messages.success(request, _("That device is logged out."))
    return HttpResponseRedirect(reverse("usersessions_list"), status=303)
