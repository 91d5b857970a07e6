"""The shape of a receipt."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers


class LineResult(serializers.Serializer[Any]):
    attempt = serializers.IntegerField()
    seconds = serializers.FloatField()
    useful = serializers.BooleanField(source="is_useful", help_text="Lost work is never charged.")
    charged_seconds = serializers.IntegerField(source="charged")


class ReceiptResult(serializers.Serializer[Any]):
    object = serializers.SerializerMethodField()
    training = serializers.CharField()
    attempts = LineResult(source="receipt.lines", many=True)
    metered = serializers.BooleanField(source="receipt.is_metered")
    useful_seconds = serializers.FloatField(source="receipt.useful")
    lost_seconds = serializers.FloatField(source="receipt.lost")
    charged_seconds = serializers.IntegerField(
        source="receipt.charged", help_text="Less what was given back."
    )
    of_allowance_seconds = serializers.IntegerField(source="receipt.of_allowance")
    of_bought_seconds = serializers.IntegerField(source="receipt.of_bought")
    of_overage_seconds = serializers.IntegerField(source="receipt.of_overage")
    overage_cents = serializers.IntegerField(source="receipt.overage_cents", help_text="On the next invoice.")
    refunded_seconds = serializers.IntegerField(source="receipt.refunded")
    held_seconds = serializers.IntegerField(
        source="receipt.held", help_text="Reserved now; what is not needed comes back at the end."
    )

    def get_object(self, row: Any) -> str:
        return "receipt"
