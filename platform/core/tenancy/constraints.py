"""`SameTeam`: a composite foreign key, so that no row can point into another team."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.db import DEFAULT_DB_ALIAS, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.backends.ddl_references import Statement
from django.db.models.constraints import BaseConstraint


class SameTeam(BaseConstraint):
    """Require `(team_id, <parent>_id)` to exist as `(team_id, id)` in the parent's table.

    PostgreSQL checks it at commit (deferred), like Django's own foreign keys. A null parent is allowed.
    """

    def __init__(self, *, parent: str, name: str) -> None:
        super().__init__(name=name)
        self.parent = parent

    def _sql(self, model: type[models.Model], schema_editor: BaseDatabaseSchemaEditor) -> str:
        field = model._meta.get_field(self.parent)
        assert isinstance(field, models.ForeignKey)
        quote = schema_editor.quote_name
        parent_table = field.related_model._meta.db_table
        return (
            f"FOREIGN KEY ({quote('team_id')}, {quote(field.attname)}) "
            f"REFERENCES {quote(parent_table)} ({quote('team_id')}, {quote('id')}) "
            "DEFERRABLE INITIALLY DEFERRED"
        )

    def constraint_sql(self, model: type[models.Model], schema_editor: BaseDatabaseSchemaEditor) -> str:  # type: ignore[override]
        return f"CONSTRAINT {schema_editor.quote_name(self.name)} {self._sql(model, schema_editor)}"

    def create_sql(self, model: type[models.Model], schema_editor: BaseDatabaseSchemaEditor) -> Statement:  # type: ignore[override]
        return Statement(
            "ALTER TABLE %(table)s ADD CONSTRAINT %(name)s %(body)s",
            table=schema_editor.quote_name(model._meta.db_table),
            name=schema_editor.quote_name(self.name),
            body=self._sql(model, schema_editor),
        )

    def remove_sql(self, model: type[models.Model], schema_editor: BaseDatabaseSchemaEditor) -> Statement:  # type: ignore[override]
        return Statement(
            "ALTER TABLE %(table)s DROP CONSTRAINT %(name)s",
            table=schema_editor.quote_name(model._meta.db_table),
            name=schema_editor.quote_name(self.name),
        )

    def validate(self, model: Any, instance: Any, exclude: Any = None, using: str = DEFAULT_DB_ALIAS) -> None:
        parent = getattr(instance, self.parent, None)
        if parent is not None and parent.team_id != instance.team_id:
            raise ValidationError(self.get_violation_error_message())

    def deconstruct(self) -> Any:
        path, args, kwargs = super().deconstruct()
        kwargs["parent"] = self.parent
        return path, args, kwargs

    def __eq__(self, other: object) -> bool:
        if isinstance(other, SameTeam):
            return self.name == other.name and self.parent == other.parent
        return NotImplemented

    __hash__ = BaseConstraint.__hash__


def tenant_constraints(label: str, *parents: str) -> list[BaseConstraint]:
    """Return the constraints of a tenant table: `UNIQUE (team_id, id)` and one `SameTeam` per parent link.

    `label` begins each name (`projects_dataset`), which must be unique in the database.
    """
    unique = models.UniqueConstraint(fields=["team", "id"], name=f"{label}_team_id")
    return [unique, *(SameTeam(parent=parent, name=f"{label}_same_team_{parent}") for parent in parents)]
