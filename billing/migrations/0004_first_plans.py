"""Put the first plans into the table. Operators change them; a plan that is there already stays as it is."""

from __future__ import annotations

from typing import Any

from django.db import migrations


def make_plans(apps: Any, schema_editor: Any) -> None:
    from billing.plans import SEEDS

    model = apps.get_model("billing", "Plan")
    # What later migrations add is not in the table yet.
    there = {field.name for field in model._meta.get_fields()}
    for seed in SEEDS:
        values = {name: value for name, value in seed.items() if name in there}
        model.objects.get_or_create(key=seed["key"], defaults=values)


class Migration(migrations.Migration):
    dependencies = [("billing", "0003_plans")]

    operations = [migrations.RunPython(make_plans, migrations.RunPython.noop)]
