"""Pages of the accounts app: the way in, the person, and a team's settings."""

from __future__ import annotations

from django.urls import include, path

from accounts.views import api_keys, team
from accounts.views.home import home
from accounts.views.preferences import language
from accounts.views.profile import profile

pages = [
    path("language/", language, name="language"),
    path("profile/", profile, name="profile"),
    path("t/<slug:slug>/settings/", team.team_settings, name="team_settings"),
    path("t/<slug:slug>/settings/members/", team.member_list, name="member_list"),
    path("t/<slug:slug>/settings/keys/", api_keys.api_key_list, name="api_key_list"),
    path("t/<slug:slug>/settings/keys/new/", api_keys.api_key_create, name="api_key_create"),
    path("t/<slug:slug>/settings/keys/<uid:uid>/revoke/", api_keys.api_key_revoke, name="api_key_revoke"),
]

urlpatterns = [
    path("", home, name="home"),
    path("", include((pages, "accounts"))),
]
