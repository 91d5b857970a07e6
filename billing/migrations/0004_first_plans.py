"""Put the first plans into the table. Operators change them; nothing here is read again."""

from __future__ import annotations

from typing import Any

from django.db import migrations

# (key, name, days earlier checkpoints are kept)
PLANS = (
    ("free", "Free", 14),
    ("pro", "Pro", 180),
    ("team", "Team", 365),
    ("enterprise", "Enterprise", None),
    ("unlimited", "Unlimited", None),
)


def make_plans(apps: Any, schema_editor: Any) -> None:
    for key, name, days in PLANS:
        apps.get_model("billing", "Plan").objects.get_or_create(
            key=key, defaults={"name": name, "retention_days": days}
        )


class Migration(migrations.Migration):
    dependencies = [("billing", "0003_plans")]

    operations = [migrations.RunPython(make_plans, migrations.RunPython.noop)]
