"""The public page of prices."""

from __future__ import annotations

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from billing import gateway
from billing.selectors import plans_on_sale, top_ups_on_sale
from core.http.decorators import public_view


@public_view
@require_GET
def pricing(request: HttpRequest) -> HttpResponse:
    """Show plans and top-ups to everybody; there is no such page where no payments are taken."""
    if not gateway.is_on():
        raise Http404
    return render(request, "billing/pricing.html", {"plans": plans_on_sale(), "top_ups": top_ups_on_sale()})
