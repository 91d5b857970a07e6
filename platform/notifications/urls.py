"""Pages of the notifications app: a person's list, and a team's webhooks."""

from __future__ import annotations

from django.urls import path

from notifications.views import inbox, webhooks

app_name = "notifications"
_settings = "t/<slug:slug>/settings"
urlpatterns = [
    path("notifications/", inbox.inbox, name="list"),
    path("notifications/bell/", inbox.bell, name="bell"),
    path("notifications/read/", inbox.read_all, name="read_all"),
    path("notifications/preferences/", inbox.preferences, name="preferences"),
    path("notifications/<uid:uid>/", inbox.opened, name="open"),
    path(f"{_settings}/webhooks/", webhooks.webhook_list, name="webhook_list"),
    path(f"{_settings}/webhooks/new/", webhooks.webhook_create, name="webhook_create"),
    path(f"{_settings}/webhooks/<uid:uid>/", webhooks.webhook, name="webhook"),
    path(f"{_settings}/webhooks/<uid:uid>/change/", webhooks.webhook_change, name="webhook_change"),
    path(f"{_settings}/webhooks/<uid:uid>/rotate/", webhooks.webhook_rotate, name="webhook_rotate"),
    path(f"{_settings}/webhooks/<uid:uid>/test/", webhooks.webhook_test, name="webhook_test"),
    path(f"{_settings}/webhooks/<uid:uid>/switch/", webhooks.webhook_switch, name="webhook_switch"),
    path(f"{_settings}/webhooks/<uid:uid>/delete/", webhooks.webhook_delete, name="webhook_delete"),
    path(f"{_settings}/deliveries/<uid:uid>/", webhooks.webhook_delivery, name="webhook_delivery"),
    path(f"{_settings}/deliveries/<uid:uid>/replay/", webhooks.webhook_replay, name="webhook_replay"),
]
