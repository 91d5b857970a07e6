"""For migrations that name models and fields anew: what people read changes, the tables do not."""

from __future__ import annotations

from typing import Any

from django.db import migrations


def named(model: str, **fields: Any) -> list[migrations.AlterField]:
    """Return the changes that give `fields` of a model their new names."""
    return [migrations.AlterField(model, name, field) for name, field in fields.items()]


class NamesOnly(migrations.SeparateDatabaseAndState):
    """Change names all at once: after each change by itself Django builds every model anew, 5 s for a hundred names."""

    def state_forwards(self, app_label: str, state: Any) -> None:
        state.__dict__.pop("apps", None)  # built again by whatever needs it next
        super().state_forwards(app_label, state)
