"""Plans, accounts, the ledger and Stripe's inbox, for the operators of this installation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, render
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from billing.models import (
    BillingAccount,
    EventState,
    Kind,
    LedgerEntry,
    LedgerTransaction,
    Plan,
    StripeEvent,
    TopUp,
)
from billing.overview import plan_lines, teams_near_limits
from billing.services.accounts import put_on_plan
from billing.services.desk import give_back, grant
from core.admin import OfTeam, ReadOnly
from core.errors import DomainError
from core.outbox import enqueue


class TimeForm(forms.Form):
    """Ask for GPU time and the reason."""

    minutes = forms.IntegerField(label=gettext_lazy("Minutes"), min_value=1, max_value=1_000_000)
    reason = forms.CharField(label=gettext_lazy("Reason (the team can read it)"), max_length=200)


def ask_for_time(
    request: HttpRequest, title: str, carry_out: Callable[[int, str], None], back: str
) -> HttpResponse:
    """Show the form, carry out what it says in seconds, and lead `back`."""
    form = TimeForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            carry_out(form.cleaned_data["minutes"] * 60, form.cleaned_data["reason"])
        except DomainError as error:
            form.add_error(None, error.message)
        else:
            messages.success(request, _("Done. The team's audit log shows it."))
            return HttpResponseRedirect(back, status=303)
    context = {**admin.site.each_context(request), "title": title, "form": form}
    return render(request, "admin/billing/time.html", context, status=422 if form.errors else 200)


@admin.register(Plan)
class PlanAdmin(admin.ModelAdmin):
    list_display = (
        "name",
        "key",
        "price_cents",
        "gpu_seconds_a_month",
        "seats",
        "boost_seconds",
        "is_on_sale",
    )
    change_list_template = "admin/billing/plan_list.html"

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.overview)
        return [path("overview/", view, name="billing_plan_overview"), *super().get_urls()]

    def get_readonly_fields(self, request: HttpRequest, obj: Plan | None = None) -> tuple[str, ...]:
        # Settings and code name plans by their key.
        return ("key",) if obj is not None else ()

    def has_delete_permission(self, request: HttpRequest, obj: Plan | None = None) -> bool:
        # Teams are on it, today or in old receipts: take it off sale instead.
        return False

    def overview(self, request: HttpRequest) -> HttpResponse:
        """Show revenue, use and margin by plan, and the teams that are near their limits."""
        if not self.has_view_permission(request):
            raise Http404
        context = {
            **self.admin_site.each_context(request),
            "title": _("Plans: this month"),
            "lines": plan_lines(),
            "near": teams_near_limits(),
        }
        return render(request, "admin/billing/overview.html", context)


@admin.register(TopUp)
class TopUpAdmin(admin.ModelAdmin):
    list_display = ("key", "seconds", "price_cents", "is_on_sale")


@admin.register(BillingAccount)
class BillingAccountAdmin(OfTeam, admin.ModelAdmin):
    list_display = ("of_team", "plan", "status", "period_end", "past_due_since", "give")
    list_filter = ("plan", "status")
    list_select_related = ("team", "plan")
    search_fields = ("team__name", "team__slug", "stripe_customer")
    autocomplete_fields = ("team",)
    fields = ("team", "plan")

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.grant)
        return [path("<int:pk>/grant/", view, name="billing_grant"), *super().get_urls()]

    def get_queryset(self, request: HttpRequest) -> QuerySet[BillingAccount]:
        return BillingAccount.unscoped.all()

    def get_readonly_fields(self, request: HttpRequest, obj: BillingAccount | None = None) -> tuple[str, ...]:
        return ("team",) if obj is not None else ()

    def has_delete_permission(self, request: HttpRequest, obj: BillingAccount | None = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: BillingAccount, form: Any, change: bool) -> None:
        obj.pk = put_on_plan(team=obj.team, plan=obj.plan, by=request.user).pk  # type: ignore[arg-type]

    @admin.display(description=gettext_lazy("GPU time"))
    def give(self, account: BillingAccount) -> SafeString:
        return format_html(
            '<a href="{}">{}</a>', reverse("admin:billing_grant", args=[account.pk]), _("Grant")
        )

    def grant(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Give a team GPU time."""
        if not self.has_change_permission(request):
            raise Http404
        account = get_object_or_404(BillingAccount.unscoped.select_related("team"), pk=pk)

        def carry_out(seconds: int, reason: str) -> None:
            grant(team=account.team, seconds=seconds, reason=reason, by=request.user)  # type: ignore[arg-type]

        title = _("Grant GPU time to %(team)s") % {"team": account.team}
        return ask_for_time(request, title, carry_out, reverse("admin:billing_billingaccount_changelist"))


class EntryInline(ReadOnly, admin.TabularInline):
    model = LedgerEntry
    fields = ("account", "seconds")
    extra = 0

    def get_queryset(self, request: HttpRequest) -> QuerySet[LedgerEntry]:
        return LedgerEntry.unscoped.all()


@admin.register(LedgerTransaction)
class LedgerTransactionAdmin(OfTeam, ReadOnly, admin.ModelAdmin):
    list_display = ("was_created_at", "of_team", "kind", "job_uid", "attempt", "reason", "refund_link")
    list_filter = ("kind",)
    list_select_related = ("team",)
    search_fields = ("uid", "job_uid", "team__slug")
    inlines = (EntryInline,)
    show_full_result_count = False

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.refund)
        return [path("<int:pk>/refund/", view, name="billing_refund"), *super().get_urls()]

    def get_queryset(self, request: HttpRequest) -> QuerySet[LedgerTransaction]:
        return LedgerTransaction.unscoped.order_by("-pk")

    @admin.display(description=gettext_lazy("Refund"))
    def refund_link(self, row: LedgerTransaction) -> SafeString | str:
        if row.kind != Kind.SETTLE:
            return ""
        return format_html(
            '<a href="{}">{}</a>', reverse("admin:billing_refund", args=[row.pk]), _("Give back")
        )

    def refund(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Give back what an attempt was charged."""
        if not request.user.has_perm("billing.change_ledgertransaction"):  # type: ignore[union-attr]
            raise Http404
        rows = LedgerTransaction.unscoped.select_related("team").filter(kind=Kind.SETTLE)
        settled = get_object_or_404(rows, pk=pk)

        def carry_out(seconds: int, reason: str) -> None:
            give_back(settled=settled, seconds=seconds, reason=reason, by=request.user)  # type: ignore[arg-type]

        title = _("Give back GPU time of %(job)s") % {"job": settled.job_uid}
        return ask_for_time(request, title, carry_out, reverse("admin:billing_ledgertransaction_changelist"))


@admin.register(StripeEvent)
class StripeEventAdmin(ReadOnly, admin.ModelAdmin):
    list_display = ("received_at", "kind", "uid", "state", "tries", "done_at")
    list_filter = ("state", "kind")
    search_fields = ("uid",)
    actions = ("replay",)
    show_full_result_count = False

    @admin.action(description=gettext_lazy("Act upon them again"))
    def replay(self, request: HttpRequest, rows: QuerySet[StripeEvent]) -> None:
        from billing.tasks import act_on_stripe_event

        if not request.user.has_perm("billing.change_stripeevent"):  # type: ignore[union-attr]
            raise Http404
        for row in rows:
            StripeEvent.objects.filter(pk=row.pk).update(state=EventState.WAITING, error="")
            enqueue(act_on_stripe_event, row.uid)
        self.message_user(request, _("They are acted upon again now."), messages.SUCCESS)
