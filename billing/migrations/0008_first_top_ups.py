"""Put the first top-ups into the table. Operators change them."""

from __future__ import annotations

from typing import Any

from django.db import migrations


def make_top_ups(apps: Any, schema_editor: Any) -> None:
    from billing.plans import TOP_UPS

    for values in TOP_UPS:
        apps.get_model("billing", "TopUp").objects.get_or_create(key=values["key"], defaults=values)


class Migration(migrations.Migration):
    dependencies = [("billing", "0007_stripe")]

    operations = [migrations.RunPython(make_top_ups, migrations.RunPython.noop)]
