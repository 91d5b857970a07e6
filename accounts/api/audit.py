"""`/audit_log`: who changed what, when."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db.models import Q, QuerySet

from accounts.actor import Actor
from accounts.api.base import TeamViewSet
from accounts.api.serializers import AuditEventSerializer, AuditQuery
from accounts.models import AuditEvent
from accounts.roles import Can
from core.api.pagination import KeyCursor


class AuditViewSet(TeamViewSet):
    can = {"list": Can.AUDIT_VIEW}
    serializer_class = AuditEventSerializer
    pagination_class = KeyCursor
    queries: ClassVar[dict[str, Any]] = {"list": AuditQuery}

    def scoped(self, actor: Actor) -> QuerySet[Any]:
        rows = AuditEvent.objects.for_team(actor.team).select_related("user")
        query = self.query
        if verb := query.get("verb"):
            rows = rows.filter(verb__startswith=verb) if verb.endswith(".") else rows.filter(verb=verb)
        if subject := query.get("subject"):
            rows = rows.filter(subject_uid=subject)
        if who := query.get("actor"):
            rows = rows.filter(Q(user__uid=who) | Q(api_key_uid=who))
        if since := query.get("since"):
            rows = rows.filter(created_at__gte=since)
        if until := query.get("until"):
            rows = rows.filter(created_at__lt=until)
        return rows

    def list(self, request: Any) -> Any:
        """List the changes, the newest first."""
        return self.page(self.get_queryset(), AuditEventSerializer)
