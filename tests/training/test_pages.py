"""The pages of training from outside: what is on them, who may, and what they cost."""

from __future__ import annotations

import json

import pytest
from django.test import Client

from accounts.roles import Role
from tests.factories import make_member
from tests.scenario import Scenario
from tests.training.conftest import client_of
from tests.training.rows import fill_run, set_state
from training.models import TrainingJob
from training.services.jobs import create_job
from training.states import JobState

# -- Rights -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "",
        "running/",
        "base-models/",
        "trainings/",
        "trainings/new/",
        "trainings/{job}/",
        "trainings/{job}/?part=head",
        "trainings/{job}/events/",
        "samples/{sample}/",
        "checkpoints/{checkpoint}/download/",
    ],
)
def test_stranger_finds_nothing(scenario: Scenario, job: TrainingJob, path: str) -> None:
    fill_run(job, scenario.alice, 1)
    sample, checkpoint = job.samples.get(), job.checkpoints.get()
    path = path.format(job=job.uid, sample=sample.uid, checkpoint=checkpoint.uid)
    assert client_of(scenario.alice).get(f"/t/atelier/{path}", follow=True).status_code == 200
    assert client_of(scenario.charlie).get(f"/t/atelier/{path}").status_code == 404
    # The same rows through the stranger's own team.
    if "_" in path:
        assert client_of(scenario.charlie).get(f"/t/elsewhere/{path}").status_code == 404
    assert Client().get(f"/t/atelier/{path}").status_code == 302


@pytest.mark.parametrize("action", ["cancel", "stop", "pause", "resume", "retry"])
def test_viewer_and_stranger_cannot_change_a_training(
    scenario: Scenario, job: TrainingJob, action: str
) -> None:
    path = f"trainings/{job.uid}/{action}/"
    before = TrainingJob.objects.for_team(scenario.team).values().get()
    assert client_of(scenario.bob).post(f"/t/atelier/{path}").status_code == 403
    assert client_of(scenario.charlie).post(f"/t/atelier/{path}").status_code == 404
    assert client_of(scenario.charlie).post(f"/t/elsewhere/{path}").status_code == 404
    assert client_of(scenario.alice).get(f"/t/atelier/{path}").status_code == 405
    assert TrainingJob.objects.for_team(scenario.team).values().get() == before


def test_viewer_sees_a_training_without_buttons_and_downloads_no_weights(
    scenario: Scenario, job: TrainingJob
) -> None:
    fill_run(job, scenario.alice, 1)
    client = client_of(scenario.bob)
    page = client.get(f"/t/atelier/trainings/{job.uid}/").content.decode()
    assert "Ink icons" in page
    assert f"/trainings/{job.uid}/cancel/" not in page
    assert "/download/" not in page
    checkpoint = job.checkpoints.get()
    assert client.get(f"/t/atelier/checkpoints/{checkpoint.uid}/download/").status_code == 403
    assert client.get("/t/atelier/trainings/new/").status_code == 403


def test_billing_sees_usage_and_no_trainings(scenario: Scenario, job: TrainingJob) -> None:
    actor = make_member(scenario.team, Role.BILLING)
    page = client_of(actor).get("/t/atelier/")
    assert page.status_code == 200
    assert "Ink icons" not in page.content.decode()


# -- One training -----------------------------------------------------------------------------------------------


def test_a_waiting_training_says_what_it_waits_for(scenario: Scenario, job: TrainingJob) -> None:
    page = client_of(scenario.alice).get(f"/t/atelier/trainings/{job.uid}/").content.decode()
    assert "Place 1 in the queue" in page
    assert "No worker is running." in page


def test_cancel_ends_a_waiting_training(scenario: Scenario, job: TrainingJob) -> None:
    answer = client_of(scenario.alice).post(f"/t/atelier/trainings/{job.uid}/cancel/")
    assert (answer.status_code, answer["Location"]) == (303, f"/t/atelier/trainings/{job.uid}/")
    job.refresh_from_db()
    assert job.state == JobState.CANCELED


def test_a_failed_training_is_retried_with_the_offered_change_once(
    scenario: Scenario, job: TrainingJob
) -> None:
    set_state(
        job,
        JobState.FAILED,
        error_code="out_of_memory",
        error_message="It does not fit.",
        error_patch={"/training/batch_size": 4},
    )
    client = client_of(scenario.alice)
    page = client.get(f"/t/atelier/trainings/{job.uid}/").content.decode()
    assert "It does not fit." in page
    assert "Retry with batch size 4" in page
    data = {"patch": "1", "form_token": f"{job.uid}-fix"}
    answers = [client.post(f"/t/atelier/trainings/{job.uid}/retry/", data) for _ in range(2)]
    [new] = TrainingJob.objects.for_team(scenario.team).exclude(pk=job.pk)
    assert {a["Location"] for a in answers} == {f"/t/atelier/trainings/{new.uid}/"}
    assert (new.retry_of, new.spec["training"]["batch_size"]) == (job, 4)


def test_the_first_paint_holds_everything_up_to_its_number(scenario: Scenario, job: TrainingJob) -> None:
    set_state(job, JobState.RUNNING, step=40, total_steps=100, phase="train", last_seq=101)
    fill_run(job, scenario.alice, 3)
    page = client_of(scenario.alice).get(f"/t/atelier/trainings/{job.uid}/")
    text = page.content.decode()
    assert 'data-after="101"' in text
    assert "round 1" in text
    # Event 102 is not counted yet: it comes by the live way, once.
    assert "round 2" not in text
    assert "Step 40 of 100" in text
    assert [(row.step, row.with_lora) for row in page.context["grid"].rows] == [
        (0, False),
        (20, True),
        (40, True),
    ]
    assert page.context["curves"] == {"loss": [(0, 0.5), (20, 0.5), (40, 0.5)]}


def test_events_come_in_order_after_a_number(scenario: Scenario, job: TrainingJob) -> None:
    fill_run(job, scenario.alice, 2)
    answer = client_of(scenario.bob).get(f"/t/atelier/trainings/{job.uid}/events/?after=1")
    assert answer.status_code == 200
    body = json.loads(answer.content)
    assert [(each["seq"], each["type"]) for each in body["items"]] == [(100, "log"), (101, "log")]
    assert body["head"] == 101


@pytest.mark.parametrize("part", ["head", "samples", "files"])
def test_a_part_of_the_page_is_drawn_alone(scenario: Scenario, job: TrainingJob, part: str) -> None:
    fill_run(job, scenario.alice, 2)
    text = client_of(scenario.alice).get(f"/t/atelier/trainings/{job.uid}/?part={part}").content.decode()
    assert f'id="job-{part}"' in text
    assert "<html" not in text


def test_sample_pictures_are_kept_by_the_browser_and_never_sniffed(
    scenario: Scenario, job: TrainingJob
) -> None:
    fill_run(job, scenario.alice, 1)
    answer = client_of(scenario.bob).get(f"/t/atelier/samples/{job.samples.get().uid}/")
    assert answer["Content-Type"] == "image/png"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert "immutable" in answer["Cache-Control"]


def test_a_checkpoint_is_downloaded_under_the_trainings_name(scenario: Scenario, job: TrainingJob) -> None:
    fill_run(job, scenario.alice, 1)
    page = f"/t/atelier/checkpoints/{job.checkpoints.get().uid}/download/"
    answer = client_of(scenario.alice).get(page, follow=True)
    assert "Ink_icons-step00000000.safetensors" in answer["Content-Disposition"]


# -- Lists and cost ---------------------------------------------------------------------------------------------


def test_the_list_is_narrowed_by_state(scenario: Scenario, job: TrainingJob) -> None:
    client = client_of(scenario.bob)
    names = {
        key: [each.name for each in client.get(f"/t/atelier/trainings/?state={key}").context["jobs"]]
        for key in ("", "active", "done", "failed", "no-such")
    }
    assert names == {
        "": ["Ink icons"],
        "active": ["Ink icons"],
        "done": [],
        "failed": [],
        "no-such": ["Ink icons"],
    }


def test_a_team_without_trainings_is_told_the_first_steps(scenario: Scenario) -> None:
    page = client_of(scenario.alice).get("/t/atelier/").content.decode()
    assert "Bring pictures" in page
    assert "Press Start" in page


@pytest.mark.parametrize("path", ["", "trainings/"])
def test_lists_cost_the_same_for_two_trainings_and_for_twenty(
    scenario: Scenario, job: TrainingJob, path: str
) -> None:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    client = client_of(scenario.alice)
    counts = []
    for total in (2, 20):
        while TrainingJob.objects.for_team(scenario.team).count() < total:
            new = create_job(
                actor=scenario.alice,
                dataset_version=job.dataset_version,
                foundation_model=job.foundation_model,
                template="style",
                name="More",
            )
            fill_run(new, scenario.alice, 1)
        with CaptureQueriesContext(connection) as queries:
            assert client.get(f"/t/atelier/{path}").status_code == 200
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 16


def test_the_page_of_a_training_costs_the_same_after_two_rounds_and_twenty(
    scenario: Scenario, job: TrainingJob
) -> None:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    client = client_of(scenario.alice)
    counts = []
    for rounds in (2, 20):
        new = create_job(
            actor=scenario.alice,
            dataset_version=job.dataset_version,
            foundation_model=job.foundation_model,
            template="style",
            name="More",
        )
        fill_run(new, scenario.alice, rounds)
        with CaptureQueriesContext(connection) as queries:
            assert client.get(f"/t/atelier/trainings/{new.uid}/").status_code == 200
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 30
