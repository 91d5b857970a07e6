"""Plans and who is on them, for the operators of this installation."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from billing.models import BillingAccount, Plan
from billing.services.accounts import put_on_plan


@admin.register(Plan)
class PlanAdmin(admin.ModelAdmin):
    list_display = ("name", "key", "retention_days")

    def get_readonly_fields(self, request: HttpRequest, obj: Plan | None = None) -> tuple[str, ...]:
        # Settings and code name plans by their key.
        return ("key",) if obj is not None else ()

    def has_delete_permission(self, request: HttpRequest, obj: Plan | None = None) -> bool:
        # Teams are on it, today or in old receipts: take it off sale instead.
        return False


@admin.register(BillingAccount)
class BillingAccountAdmin(admin.ModelAdmin):
    list_display = ("team", "plan", "created_at")
    list_filter = ("plan",)
    list_select_related = ("team", "plan")
    search_fields = ("team__name", "team__slug")
    autocomplete_fields = ("team",)
    fields = ("team", "plan")

    def get_queryset(self, request: HttpRequest) -> QuerySet[BillingAccount]:
        return BillingAccount.unscoped.all()

    def get_readonly_fields(self, request: HttpRequest, obj: BillingAccount | None = None) -> tuple[str, ...]:
        return ("team",) if obj is not None else ()

    def has_delete_permission(self, request: HttpRequest, obj: BillingAccount | None = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: BillingAccount, form: Any, change: bool) -> None:
        obj.pk = put_on_plan(team=obj.team, plan=obj.plan, by=request.user).pk  # type: ignore[arg-type]
