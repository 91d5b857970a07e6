"""Find the month of a large ledger by an index."""

from __future__ import annotations

from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0007_team_erasing"),
        ("billing", "0008_first_top_ups"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddIndex(
            model_name="ledgertransaction",
            index=models.Index(
                condition=models.Q(("kind", "allowance")),
                fields=["team", "key"],
                name="billing_transaction_month",
            ),
        ),
        migrations.AddIndex(
            model_name="usageentry",
            index=models.Index(fields=["team", "created_at"], name="billing_usageentry_when"),
        ),
    ]
