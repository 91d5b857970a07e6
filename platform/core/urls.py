"""Addresses that belong to no app: the theme, and tools of a private installation."""

from __future__ import annotations

from django.urls import path

from core import downloads, mail_views, metrics, views

app_name = "core"
urlpatterns = [
    path("files/<str:token>", downloads.file, name="file"),
    path("metrics", metrics.metrics, name="metrics"),
    path("theme/", views.theme, name="theme"),
    path("dev/styleguide/", views.styleguide, name="styleguide"),
    path("dev/mail/", mail_views.mail_list, name="mail_list"),
    path("dev/mail/<str:name>/", mail_views.mail_message, name="mail_message"),
    path("dev/mail/<str:name>/body/", mail_views.mail_body, name="mail_body"),
    path("dev/mail/<str:name>/pictures/<str:cid>", mail_views.mail_picture, name="mail_picture"),
]
