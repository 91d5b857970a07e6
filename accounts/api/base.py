"""`TeamViewSet`: the only way to a tenant row in the API."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db.models import QuerySet
from rest_framework import serializers, viewsets
from rest_framework.request import Request

from accounts.actor import Actor, require
from accounts.roles import Can
from core.api.pagination import UidCursor
from core.errors import NotFound
from core.ids import UidConverter


class StrictSerializer(serializers.Serializer[Any]):
    """A serializer for input that refuses fields it does not know."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict) and (unknown := sorted(set(data) - set(self.fields))):
            raise serializers.ValidationError(
                {
                    name: serializers.ErrorDetail(
                        f"There is no field {name!r} here. Known: {', '.join(self.fields)}.",
                        code="unknown_field",
                    )
                    for name in unknown
                }
            )
        return super().to_internal_value(data)


class TeamViewSet(viewsets.GenericViewSet[Any]):
    """A viewset whose rows come from `scoped(actor)` and nowhere else.

    Subclasses say what each action needs in `can` (action name -> permission) and give `scoped`. The methods
    that could open another way to rows may not be replaced.
    """

    can: ClassVar[dict[str, Can]]
    lookup_field = "uid"
    lookup_value_regex = UidConverter.regex
    pagination_class = UidCursor
    door = "machine"

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

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if self.action is not None and self.action != "metadata":
            require(self.actor, self.can[self.action])

    def get_queryset(self) -> QuerySet[Any]:
        return self.scoped(self.actor)

    def get_object(self) -> Any:
        row = self.get_queryset().filter(uid=self.kwargs["uid"]).first()
        if row is None:
            raise NotFound
        return row
