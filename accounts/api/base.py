"""`TeamViewSet`: the only way to a tenant row in the API."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db.models import QuerySet
from django.utils.translation import gettext as _
from rest_framework import serializers
from rest_framework.response import Response
from rest_framework.reverse import reverse

from accounts.actor import Actor, require
from accounts.roles import Can
from core.api.pagination import UidCursor
from core.api.serializers import Choice, ListQuery, Query, StrictSerializer, Whole
from core.api.views import ApiViewSet
from core.errors import NotFound
from core.ids import UidConverter
from core.quotas import demand_feature

__all__ = [
    "Choice",
    "ListQuery",
    "Listed",
    "ObjectSerializer",
    "Query",
    "Shown",
    "StrictSerializer",
    "TeamViewSet",
    "Whole",
]


class ObjectSerializer(serializers.ModelSerializer[Any]):
    """Give `id` (the uid) and `object` (what it is) of every resource."""

    object_name = ""

    id = serializers.CharField(source="uid", read_only=True)
    object = serializers.SerializerMethodField()

    def get_object(self, row: Any) -> str:
        return self.object_name

    def address(self, name: str, uid: str) -> str:
        """Return the absolute address of an API resource."""
        return str(reverse(name, kwargs={"uid": uid}, request=self.context.get("request")))


class TeamViewSet(ApiViewSet):
    """A viewset whose rows come from `scoped(actor)` and nowhere else.

    Subclasses say what each action needs in `can` (action name -> permission, None for any credential) and give
    `scoped`. The methods that could open another way to rows may not be replaced.
    """

    can: ClassVar[dict[str, Can | None]]
    lookup_field = "uid"
    lookup_value_regex = UidConverter.regex
    pagination_class = UidCursor
    door = "machine"
    # What a team may have done over the API whatever it pays: taking its data along, and leaving.
    in_every_plan: ClassVar[bool] = False

    _CLOSED = ("get_queryset", "get_object", "get_permissions", "get_authenticators", "check_permissions")

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        opened = [name for name in TeamViewSet._CLOSED if name in cls.__dict__]
        if opened:
            raise TypeError(f"{cls.__name__} may not define {', '.join(opened)}: give `scoped` instead")

    @property
    def actor(self) -> Actor:
        actor = self.request.auth
        assert isinstance(actor, Actor)
        return actor

    def scoped(self, actor: Actor) -> QuerySet[Any]:
        """Return the rows of the actor's team, with what the serializer needs."""
        raise NotImplementedError

    def check_rights(self) -> None:
        if self.action is not None and self.action != "metadata":
            permission = self.can[self.action]
            if permission is not None:
                require(self.actor, permission)
                self._require_plan(permission)

    def _require_plan(self, permission: Can) -> None:
        """Refuse programs that change things where the plan lets them only read; taking away is always allowed."""
        is_program = self.request.headers.get("Authorization") is not None
        changes = not permission.value.endswith(":read") and self.request.method != "DELETE"
        if is_program and changes and not self.in_every_plan:
            message = _("Your plan lets programs read but not change things.")
            demand_feature(self.actor.team, "api", message)

    def throttle_subject(self) -> str:
        # Not by key: more keys would be more requests.
        return f"{self.actor.user.uid}:{self.actor.team.uid}"

    def get_queryset(self) -> QuerySet[Any]:
        return self.scoped(self.actor)

    def get_object(self) -> Any:
        row = self.get_queryset().filter(uid=self.kwargs["uid"]).first()
        if row is None:
            raise NotFound
        return row

    def page(self, rows: QuerySet[Any], serializer: Any) -> Response:
        """Answer with one page of `rows`."""
        found = self.paginate_queryset(rows)
        data = serializer(found, many=True, context=self.get_serializer_context()).data
        return self.get_paginated_response(data)

    def input(self, serializer: type[serializers.Serializer[Any]]) -> dict[str, Any]:
        """Return the checked body of the request."""
        checked = serializer(data=self.request.data, context=self.get_serializer_context())
        checked.is_valid(raise_exception=True)
        return dict(checked.validated_data)

    def shown(self, uid: str, status: int = 200) -> Response:
        """Answer with a row as a list would show it."""
        self.kwargs["uid"] = uid
        return Response(self.get_serializer(self.get_object()).data, status=status)


class Shown(TeamViewSet):
    """A resource whose rows can be asked for one by one."""

    def retrieve(self, request: Any, uid: str) -> Response:
        return Response(self.get_serializer(self.get_object()).data)


class Listed(Shown):
    """A resource whose rows can be listed as well."""

    queries: ClassVar[dict[str, type[Query]]] = {"list": ListQuery}

    def list(self, request: Any) -> Response:
        return self.page(self.get_queryset(), self.get_serializer_class())
