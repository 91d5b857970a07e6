"""People, teams and the audit log for the operators of this installation."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from accounts.models import AuditEvent, Membership, Team, User
from core.admin import ReadOnly


@admin.register(User)
class UserAdmin(admin.ModelAdmin):
    list_display = ("email", "name", "is_active", "is_staff", "last_login", "act_as")
    list_filter = ("is_active", "is_staff")
    search_fields = ("email", "name", "uid")
    ordering = ("-pk",)
    fields = ("uid", "email", "name", "language", "is_active", "is_staff", "is_superuser", "last_login")
    readonly_fields = ("uid", "email", "name", "language", "last_login")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return False

    @admin.display(description=_("Act as"))
    def act_as(self, person: User) -> SafeString | str:
        if person.is_staff or not person.is_active:
            return ""
        return format_html(
            '<a href="{}">{}</a>', reverse("accounts:acting_begin", args=[person.uid]), _("Act as")
        )


class MembershipInline(admin.TabularInline):
    model = Membership
    extra = 0
    fields = ("user", "role", "created_at")
    readonly_fields = ("user", "role", "created_at")
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Team)
class TeamAdmin(ReadOnly, admin.ModelAdmin):
    list_display = ("name", "slug", "is_demo", "require_two_factor", "deleted_at", "created_at")
    search_fields = ("name", "slug", "uid")
    ordering = ("-pk",)
    inlines = (MembershipInline,)


@admin.register(AuditEvent)
class AuditEventAdmin(ReadOnly, admin.ModelAdmin):
    list_display = ("created_at", "team", "verb", "subject_name", "user_id")
    list_select_related = ("team",)
    search_fields = ("verb", "subject_uid", "subject_name")
    ordering = ("-pk",)
    show_full_result_count = False
