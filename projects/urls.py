"""Pages of the projects app; the team's slug comes first in every address."""

from __future__ import annotations

from django.urls import path

from projects.views import datasets, files, items, models, projects, uploads

app_name = "projects"
urlpatterns = [
    path("projects/", projects.project_list, name="project_list"),
    path("projects/new/", projects.project_create, name="project_create"),
    path("projects/<uid:uid>/", projects.project, name="project"),
    path("projects/<uid:uid>/change/", projects.project_change, name="project_change"),
    path("projects/<uid:uid>/visibility/", projects.project_visibility, name="project_visibility"),
    path("projects/<uid:uid>/archive/", projects.project_archive, name="project_archive"),
    path("projects/<uid:uid>/datasets/new/", datasets.dataset_create, name="dataset_create"),
    path("datasets/<uid:uid>/", datasets.dataset, name="dataset"),
    path("datasets/<uid:uid>/change/", datasets.dataset_change, name="dataset_change"),
    path("datasets/<uid:uid>/delete/", datasets.dataset_delete, name="dataset_delete"),
    path("datasets/<uid:uid>/freeze/", datasets.dataset_freeze, name="dataset_freeze"),
    path("datasets/<uid:uid>/bulk/", datasets.dataset_bulk, name="dataset_bulk"),
    path("datasets/<uid:uid>/uploads/", uploads.upload_create, name="upload_create"),
    path("datasets/<uid:uid>/uploads/form/", uploads.upload_form, name="upload_form"),
    path("datasets/<uid:uid>/uploads/results/", uploads.upload_results, name="upload_results"),
    path("datasets/<uid:uid>/uploads/log/", uploads.upload_log, name="upload_log"),
    path("uploads/<uid:uid>/", uploads.upload, name="upload"),
    path("pictures/<uid:uid>/", files.picture, name="picture"),
    path("thumbnails/<uid:uid>/", files.thumbnail, name="thumbnail"),
    path("items/<uid:uid>/", items.item, name="item"),
    path("items/<uid:uid>/caption/", items.item_caption, name="item_caption"),
    path("items/<uid:uid>/exclude/", items.item_exclude, name="item_exclude"),
    path("items/<uid:uid>/delete/", items.item_delete, name="item_delete"),
    path("models/", models.model_list, name="model_list"),
    path("models/<uid:uid>/", models.model, name="model"),
    path("models/<uid:uid>/delete/", models.model_delete, name="model_delete"),
    path("model_versions/<uid:uid>/delete/", models.version_delete, name="version_delete"),
    path("lora-files/<uid:uid>/download/", files.lora_download, name="lora_download"),
]
