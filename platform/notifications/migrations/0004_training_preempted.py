"""Tell who started a training that it made room."""

from __future__ import annotations

from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("notifications", "0003_plan_at_risk"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name="notification",
            name="notifications_notification_kind",
        ),
        migrations.AlterField(
            model_name="notification",
            name="kind",
            field=models.CharField(
                choices=[
                    ("training.done", "A training of mine is done"),
                    ("training.failed", "A training of mine failed"),
                    ("training.canceled", "Somebody else canceled a training of mine"),
                    ("training.rests", "A training of mine rests: the GPU time is used up"),
                    ("training.preempted", "A training of mine made room for another"),
                    ("member.joined", "Somebody joined a team that I manage"),
                    ("webhook.disabled", "A webhook of a team that I manage was switched off"),
                    ("limit.near", "A limit of a team that I manage is near or reached"),
                    ("payment", "The plan of a team that I manage changed"),
                    ("plan.at_risk", "A payment of a team that I manage failed, or its plan ended"),
                ],
                max_length=40,
            ),
        ),
        migrations.AlterField(
            model_name="notificationchoice",
            name="kind",
            field=models.CharField(
                choices=[
                    ("training.done", "A training of mine is done"),
                    ("training.failed", "A training of mine failed"),
                    ("training.canceled", "Somebody else canceled a training of mine"),
                    ("training.rests", "A training of mine rests: the GPU time is used up"),
                    ("training.preempted", "A training of mine made room for another"),
                    ("member.joined", "Somebody joined a team that I manage"),
                    ("webhook.disabled", "A webhook of a team that I manage was switched off"),
                    ("limit.near", "A limit of a team that I manage is near or reached"),
                    ("payment", "The plan of a team that I manage changed"),
                    ("plan.at_risk", "A payment of a team that I manage failed, or its plan ended"),
                ],
                max_length=40,
            ),
        ),
        migrations.AddConstraint(
            model_name="notification",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "kind__in",
                        [
                            "training.done",
                            "training.failed",
                            "training.canceled",
                            "training.rests",
                            "training.preempted",
                            "member.joined",
                            "webhook.disabled",
                            "limit.near",
                            "payment",
                            "plan.at_risk",
                        ],
                    )
                ),
                name="notifications_notification_kind",
            ),
        ),
    ]
