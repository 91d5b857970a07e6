"""The tenant wall in the models: rows of a team are reached only through that team."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, Self

from django.db import models

if TYPE_CHECKING:
    from accounts.models import Team


class UnscopedQuery(RuntimeError):
    """Say that tenant rows were queried without a team."""


class TenantQuerySet(models.QuerySet[Any]):
    """A queryset of tenant rows; `for_team` narrows it to one team."""

    def for_team(self, team: Team) -> Self:
        return self.filter(team_id=team.pk)


class TenantManager(models.Manager[Any]):
    """Refuse every query until `.for_team(team)`, so that a forgotten filter is an error and not a leak."""

    def for_team(self, team: Team) -> TenantQuerySet:
        """Return the rows of `team` only."""
        return TenantQuerySet(self.model, using=self._db).filter(team_id=team.pk)

    def create(self, **values: Any) -> Any:
        """Create a row; its team must be named."""
        if values.get("team") is None and values.get("team_id") is None:
            raise UnscopedQuery(f"{self.model.__name__}.objects.create() needs a team")
        return TenantQuerySet(self.model, using=self._db).create(**values)

    def bulk_create(self, objs: Any, *args: Any, **kwargs: Any) -> Any:
        return TenantQuerySet(self.model, using=self._db).bulk_create(objs, *args, **kwargs)

    def get_queryset(self) -> NoReturn:
        raise UnscopedQuery(f"{self.model.__name__}.objects needs .for_team(team) first")


class TenantModel(models.Model):
    """A row that belongs to one team.

    Every subclass lists `tenant_constraints("parent", ...)` in its `Meta.constraints`, naming each link to
    another tenant table, so that the database itself refuses a link across teams.
    """

    team = models.ForeignKey("accounts.Team", on_delete=models.CASCADE, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = TenantManager()
    # The named exception, for the queue, the sweeper, the admin and migrations; a test lists who may use it.
    # Also what Django itself uses for related rows, which are reached from a row that was already scoped.
    unscoped = models.Manager.from_queryset(TenantQuerySet)()

    class Meta:
        abstract = True
        base_manager_name = "unscoped"
        default_manager_name = "unscoped"
