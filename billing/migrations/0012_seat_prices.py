"""Price the further seats of the first plans, where the operator has not."""

from __future__ import annotations

from typing import Any

from django.db import migrations


def price_seats(apps: Any, schema_editor: Any) -> None:
    from billing.plans import SEEDS

    for seed in SEEDS:
        if cents := seed.get("seat_cents"):
            rows = apps.get_model("billing", "Plan").objects.filter(key=seed["key"], seat_cents=None)
            rows.update(seat_cents=cents)


class Migration(migrations.Migration):
    dependencies = [("billing", "0011_seats_and_grace")]

    operations = [migrations.RunPython(price_seats, migrations.RunPython.noop)]
