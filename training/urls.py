"""Pages of the training app; the team's slug comes first in every address."""

from __future__ import annotations

from django.urls import path

from training.views import captionings, create, evaluations, files, home, jobs, playground

app_name = "training"
urlpatterns = [
    path("", home.home, name="home"),
    path("activity/", home.activity, name="activity"),
    path("running/", home.job_pill, name="job_pill"),
    path("base-models/", home.foundation_list, name="foundation_list"),
    path("trainings/", jobs.job_list, name="job_list"),
    path("trainings/new/", create.job_create, name="job_create"),
    path("trainings/<uid:uid>/", jobs.job, name="job"),
    path("trainings/<uid:uid>/events/", jobs.job_events, name="job_events"),
    path("trainings/<uid:uid>/cancel/", jobs.job_cancel, name="job_cancel"),
    path("trainings/<uid:uid>/stop/", jobs.job_stop, name="job_stop"),
    path("trainings/<uid:uid>/pause/", jobs.job_pause, name="job_pause"),
    path("trainings/<uid:uid>/resume/", jobs.job_resume, name="job_resume"),
    path("trainings/<uid:uid>/retry/", jobs.job_retry, name="job_retry"),
    path("playground/", playground.playground, name="playground"),
    path("generations/", playground.generation_create, name="generation_create"),
    path("generations/<uid:uid>/", playground.generation, name="generation"),
    path("generations/<uid:uid>/cancel/", playground.generation_cancel, name="generation_cancel"),
    path("generations/<uid:uid>/resume/", playground.generation_resume, name="generation_resume"),
    path("generations/<uid:uid>/delete/", playground.generation_delete, name="generation_delete"),
    path("generations/<uid:uid>/events/", playground.generation_events, name="generation_events"),
    path("datasets/<uid:uid>/captions/", captionings.captioning_create, name="captioning_create"),
    path("captionings/<uid:uid>/", captionings.captioning, name="captioning"),
    path("captionings/<uid:uid>/cancel/", captionings.captioning_cancel, name="captioning_cancel"),
    path("captionings/<uid:uid>/resume/", captionings.captioning_resume, name="captioning_resume"),
    path("captionings/<uid:uid>/events/", captionings.captioning_events, name="captioning_events"),
    path("model_versions/<uid:uid>/evaluate/", evaluations.evaluation_create, name="evaluation_create"),
    path("evaluations/<uid:uid>/", evaluations.evaluation, name="evaluation"),
    path("evaluations/<uid:uid>/cancel/", evaluations.evaluation_cancel, name="evaluation_cancel"),
    path("evaluations/<uid:uid>/resume/", evaluations.evaluation_resume, name="evaluation_resume"),
    path("evaluations/<uid:uid>/events/", evaluations.evaluation_events, name="evaluation_events"),
    path("samples/<uid:uid>/", files.sample_picture, name="sample_picture"),
    path("checkpoints/<uid:uid>/download/", files.checkpoint_download, name="checkpoint_download"),
]
