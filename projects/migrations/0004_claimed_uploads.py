"""Say on the row of an upload who looks at its files, and for how long."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("projects", "0003_resumable_uploads")]

    operations = [
        migrations.AddField("upload", "claim", models.UUIDField(editable=False, null=True)),
        migrations.AddField("upload", "claimed_until", models.DateTimeField(editable=False, null=True)),
        # With a default in the database: code that does not know the column may still be running.
        migrations.AddField(
            "upload", "kills", models.PositiveSmallIntegerField(db_default=0, editable=False)
        ),
    ]
