"""API routes of the accounts app."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, path
from rest_framework.routers import SimpleRouter

from accounts.api.api_keys import ApiKeyViewSet
from accounts.api.audit import AuditViewSet
from accounts.api.me import MeViewSet
from accounts.api.members import InvitationViewSet, MemberViewSet
from accounts.api.privacy import DeletionViewSet, ExportViewSet
from accounts.api.tokens import AuthViewSet

router = SimpleRouter(trailing_slash=False)
router.register("members", MemberViewSet, basename="member")
router.register("invitations", InvitationViewSet, basename="invitation")
router.register("exports", ExportViewSet, basename="export")
router.register("api_keys", ApiKeyViewSet, basename="api_key")

urlpatterns: list[URLPattern | URLResolver] = [
    path("me", MeViewSet.as_view({"get": "me"}), name="me"),
    path("limits", MeViewSet.as_view({"get": "limits"}), name="limits"),
    path("team", MeViewSet.as_view({"get": "retrieve", "patch": "partial_update"}), name="team"),
    path("audit_log", AuditViewSet.as_view({"get": "list"}, detail=False), name="audit_log"),
    path("deletion_requests", DeletionViewSet.as_view({"post": "create"}), name="deletion_request-list"),
    path("auth/token", AuthViewSet.as_view({"post": "token"}), name="auth_token"),
    path("auth/refresh", AuthViewSet.as_view({"post": "refresh"}), name="auth_refresh"),
    path("auth/revoke", AuthViewSet.as_view({"post": "revoke"}), name="auth_revoke"),
    *router.urls,
]
