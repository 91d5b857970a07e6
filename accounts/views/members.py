"""Who belongs to a team, and who is invited."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts.actor import Actor
from accounts.forms import InvitationForm, RoleForm
from accounts.models import Membership, User
from accounts.roles import Can, Role, may_grant
from accounts.selectors import member_by_uid, open_invitations, team_members
from accounts.services.invitations import accept_invitation, invitation_of, invite, revoke_invitation
from accounts.services.memberships import change_role, remove_member
from accounts.web import TeamRequest, team_view
from core.http.decorators import public_view


def _page(request: TeamRequest, form: InvitationForm, status: int = 200) -> HttpResponse:
    actor = request.actor
    context = {
        "members": [(member, _may_touch(actor, member)) for member in team_members(actor)],
        "invitations": open_invitations(actor),
        "form": form,
        "roles": form.fields["role"].choices,  # type: ignore[attr-defined]
        "asking": bool(form.errors) or (request.method == "GET" and "new" in request.GET),
        "may_change": actor.can(Can.MEMBERS),
    }
    return render(request, "accounts/member_list.html", context, status=status)


def _may_touch(actor: Actor, member: Membership) -> bool:
    is_other = member.user_id != actor.user.pk
    return is_other and actor.can(Can.MEMBERS) and may_grant(actor.role, Role(member.role))


@team_view(can=Can.TEAM_VIEW)
@require_GET
def member_list(request: TeamRequest) -> HttpResponse:
    """List who belongs to the team, and as what."""
    return _page(request, InvitationForm(request.actor))


@team_view(can=Can.MEMBERS)
@require_POST
def invitation_create(request: TeamRequest) -> HttpResponse:
    """Invite somebody by e-mail."""
    form = InvitationForm(request.actor, request.POST)
    if not form.is_valid():
        return _page(request, form, status=422)
    sent = invite(actor=request.actor, email=form.cleaned_data["email"], role=Role(form.cleaned_data["role"]))
    messages.success(request, _("The invitation is on its way to %(email)s.") % {"email": sent.email})
    return _back(request)


@team_view(can=Can.MEMBERS)
@require_POST
def invitation_revoke(request: TeamRequest, uid: str) -> HttpResponse:
    """Take an invitation back."""
    revoke_invitation(actor=request.actor, uid=uid)
    messages.success(request, _("The invitation is taken back; its link opens nothing."))
    return _back(request)


@team_view(can=Can.MEMBERS)
@require_POST
def member_role(request: TeamRequest, uid: str) -> HttpResponse:
    """Give a member another role."""
    member_by_uid(request.actor, uid)
    form = RoleForm(request.actor, request.POST)
    if form.is_valid():
        change_role(actor=request.actor, user_uid=uid, role=Role(form.cleaned_data["role"]))
        messages.success(request, _("The role is changed. It holds at once."))
    else:
        messages.error(request, _("You cannot give that role."))
    return _back(request)


@team_view(can=Can.MEMBERS)
@require_POST
def member_remove(request: TeamRequest, uid: str) -> HttpResponse:
    """Take somebody out of the team."""
    remove_member(actor=request.actor, user_uid=uid)
    messages.success(request, _("The person is out of the team; their keys work no more."))
    return _back(request)


@team_view(can=Can.TEAM_VIEW)
@require_POST
def team_leave(request: TeamRequest) -> HttpResponse:
    """Leave the team."""
    remove_member(actor=request.actor, user_uid=request.actor.user.uid)
    messages.success(request, _("You left %(team)s.") % {"team": request.actor.team})
    return HttpResponseRedirect(reverse("home"), status=303)


@public_view
@never_cache
@require_http_methods(["GET", "POST"])
def invitation(request: HttpRequest, token: str) -> HttpResponse:
    """Show an invitation to whoever opens its link; accept it, or lead to the login or the sign-up."""
    found = invitation_of(token)
    if found is None or not found.is_open:
        return render(request, "accounts/invitation_ended.html", status=410 if found else 404)
    person = request.user if isinstance(request.user, User) else None
    if request.method == "POST" and person:
        actor = accept_invitation(user=person, invitation=found)
        return redirect("training:home", slug=actor.team.slug)
    # Sign-up reads it: the address counts as confirmed, and no further team is made.
    request.session["invitation"] = token
    context = {
        "invitation": found,
        "fits": person is not None and person.email == found.email,
        "next": urlencode({"next": request.path}),
    }
    return render(request, "accounts/invitation.html", context)


def _back(request: TeamRequest) -> HttpResponse:
    return HttpResponseRedirect(reverse("accounts:member_list", args=[request.actor.team.slug]), status=303)
