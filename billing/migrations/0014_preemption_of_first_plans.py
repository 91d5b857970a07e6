"""Let the larger of the first plans preempt, as far as they are there."""

from __future__ import annotations

from typing import Any

from django.db import migrations


def set_preemption(apps: Any, schema_editor: Any) -> None:
    plans = apps.get_model("billing", "Plan").objects
    plans.filter(key__in=["team", "enterprise"]).update(may_preempt=True)
    plans.filter(key__in=["team", "enterprise", "unlimited"]).update(is_preemptible=False)


class Migration(migrations.Migration):
    dependencies = [("billing", "0013_preemption")]

    operations = [migrations.RunPython(set_preemption, migrations.RunPython.noop)]
