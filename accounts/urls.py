"""Pages of the accounts app: the way in, the person, and a team's settings."""

from __future__ import annotations

from django.urls import include, path

from accounts.views import api_keys, audit, members, operate, team, team_privacy
from accounts.views.home import home
from accounts.views.preferences import language
from accounts.views.privacy import profile_data, profile_delete, profile_deleted
from accounts.views.profile import profile
from accounts.views.sessions import profile_session_end

pages = [
    path("language/", language, name="language"),
    path("profile/", profile, name="profile"),
    path("profile/sessions/<int:pk>/end/", profile_session_end, name="profile_session_end"),
    path("profile/data/", profile_data, name="profile_data"),
    path("profile/delete/", profile_delete, name="profile_delete"),
    path("profile/deleted/", profile_deleted, name="profile_deleted"),
    path("operate/act-as/<uid:uid>/", operate.acting_begin, name="acting_begin"),
    path("operate/end/", operate.acting_end, name="acting_end"),
    path("teams/new/", team.team_create, name="team_create"),
    path("teams/<uid:uid>/restore/", team.team_restore, name="team_restore"),
    path("invitations/<str:token>/", members.invitation, name="invitation"),
    path("t/<slug:slug>/settings/", team.team_settings, name="team_settings"),
    path("t/<slug:slug>/settings/transfer/", team.team_transfer, name="team_transfer"),
    path("t/<slug:slug>/settings/delete/", team.team_delete, name="team_delete"),
    path("t/<slug:slug>/settings/leave/", members.team_leave, name="team_leave"),
    path("t/<slug:slug>/settings/members/", members.member_list, name="member_list"),
    path("t/<slug:slug>/settings/members/<uid:uid>/role/", members.member_role, name="member_role"),
    path("t/<slug:slug>/settings/members/<uid:uid>/remove/", members.member_remove, name="member_remove"),
    path("t/<slug:slug>/settings/invitations/new/", members.invitation_create, name="invitation_create"),
    path(
        "t/<slug:slug>/settings/invitations/<uid:uid>/revoke/",
        members.invitation_revoke,
        name="invitation_revoke",
    ),
    path("t/<slug:slug>/settings/privacy/", team_privacy.privacy, name="privacy"),
    path("t/<slug:slug>/settings/exports/new/", team_privacy.export_create, name="export_create"),
    path("t/<slug:slug>/settings/exports/<uid:uid>/", team_privacy.export_download, name="export_download"),
    path("t/<slug:slug>/settings/audit/", audit.audit_log, name="audit_log"),
    path("t/<slug:slug>/settings/keys/", api_keys.api_key_list, name="api_key_list"),
    path("t/<slug:slug>/settings/keys/new/", api_keys.api_key_create, name="api_key_create"),
    path("t/<slug:slug>/settings/keys/<uid:uid>/roll/", api_keys.api_key_roll, name="api_key_roll"),
    path("t/<slug:slug>/settings/keys/<uid:uid>/revoke/", api_keys.api_key_revoke, name="api_key_revoke"),
]

urlpatterns = [
    path("", home, name="home"),
    path("", include((pages, "accounts"))),
]
