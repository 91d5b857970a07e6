"""Let an outbox row be taken for a while, and know when it is due again."""

from __future__ import annotations

import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("core", "0001_initial")]

    operations = [
        migrations.RemoveIndex(model_name="outboxmessage", name="core_outbox_open"),
        migrations.RenameField(model_name="outboxmessage", old_name="attempts", new_name="sends"),
        migrations.AlterField(
            model_name="outboxmessage", name="sends", field=models.PositiveIntegerField(default=1)
        ),
        migrations.RemoveField(model_name="outboxmessage", name="sent_at"),
        migrations.AddField(
            model_name="outboxmessage", name="failures", field=models.PositiveIntegerField(default=0)
        ),
        migrations.AddField(
            model_name="outboxmessage", name="taken_until", field=models.DateTimeField(null=True)
        ),
        migrations.AddField(
            model_name="outboxmessage",
            name="next_try_at",
            field=models.DateTimeField(default=django.utils.timezone.now),
        ),
        migrations.AddIndex(
            model_name="outboxmessage",
            index=models.Index(
                condition=models.Q(("done_at", None)), fields=["next_try_at"], name="core_outbox_due"
            ),
        ),
    ]
