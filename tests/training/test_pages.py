"""The pages of training from outside: what is on them, who may, and what they cost."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts.actor import Actor
from accounts.roles import Role
from tests.factories import make_member
from tests.scenario import Scenario
from tests.training.rows import make_base, make_blob, make_version
from training.models import Attempt, Checkpoint, JobEvent, MetricChunk, Sample, TrainingJob
from training.services.jobs import create_job
from training.states import JobState

NEW = "/t/atelier/trainings/new/"


def _client(actor: Actor) -> Client:
    client = Client()
    client.force_login(actor.user)
    return client


@pytest.fixture
def job(scenario: Scenario) -> TrainingJob:
    """A waiting job of Alice's team."""
    return create_job(
        actor=scenario.alice,
        dataset_version=make_version(scenario.alice),
        foundation_model=make_base(),
        template="style",
        name="Ink icons",
        trigger="ink style",
    )


def _set(job: TrainingJob, state: JobState, **fields: Any) -> TrainingJob:
    live = state in {JobState.STARTING, JobState.RUNNING, JobState.STOPPING, JobState.FINALIZING}
    done = state in {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELED, JobState.STOPPED}
    TrainingJob.objects.for_team(job.team).filter(pk=job.pk).update(
        state=state,
        lease_until=timezone.now() if live else None,
        finished_at=timezone.now() if done else None,
        **fields,
    )
    job.refresh_from_db()
    return job


def _fill(job: TrainingJob, actor: Actor, rounds: int) -> None:
    """Give a job the telemetry of a run: samples, checkpoints, curves, log."""
    blob = make_blob(actor)
    for number in range(rounds):
        step = 20 * number
        Sample.objects.create(
            team=job.team, job=job, blob=blob, step=step, epoch=number, prompt_index=0, prompt="a cat",
            seed=42, with_lora=number > 0,
        )  # fmt: skip
        Checkpoint.objects.create(team=job.team, job=job, fence=1, step=step, epoch=number, export=blob)
        MetricChunk.objects.create(
            team=job.team, job=job, metric="loss", chunk=number, steps=[step], values=[0.5]
        )
        JobEvent.objects.create(
            team=job.team, job=job, seq=100 + number, fence=1, type="log", at=timezone.now(),
            data={"level": "info", "message": f"round {number}"},
        )  # fmt: skip
        Attempt.objects.create(team=job.team, job=job, fence=10 + number, started_at=timezone.now())


def _form(scenario: Scenario, **changed: str) -> dict[str, str]:
    """Fill in the form as the page offers it."""
    page = _client(scenario.alice).get(NEW)
    context = page.context
    data = {
        "form_token": context["form"].data["form_token"],
        "source": context["form"].data["source"],
        "base_model": "demo",
        "template": "style",
        "name": "Ink icons",
        "trigger": "ink",
        "prompts": context["prompts"],
        "prompts_offered": context["prompts_offered"],
        "length_unit": "steps",
        "action": "start",
    }
    draft = context["draft"]
    for each in [*draft.basic, *(setting for _t, settings, _n in draft.groups for setting in settings)]:
        data[f"recommended.{each.name}"] = each.remembered
        if each.info.kind != "bool":
            data[each.name] = each.shown
        elif each.value:
            data[each.name] = "on"
    return {**data, **changed}


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
    _fill(job, scenario.alice, 1)
    sample, checkpoint = job.samples.get(), job.checkpoints.get()
    path = path.format(job=job.uid, sample=sample.uid, checkpoint=checkpoint.uid)
    assert _client(scenario.alice).get(f"/t/atelier/{path}").status_code == 200
    assert _client(scenario.charlie).get(f"/t/atelier/{path}").status_code == 404
    # The same rows through the stranger's own team.
    if "_" in path:
        assert _client(scenario.charlie).get(f"/t/elsewhere/{path}").status_code == 404
    assert Client().get(f"/t/atelier/{path}").status_code == 302


@pytest.mark.parametrize("action", ["cancel", "stop", "pause", "resume", "retry"])
def test_viewer_and_stranger_cannot_change_a_training(
    scenario: Scenario, job: TrainingJob, action: str
) -> None:
    path = f"trainings/{job.uid}/{action}/"
    before = TrainingJob.objects.for_team(scenario.team).values().get()
    assert _client(scenario.bob).post(f"/t/atelier/{path}").status_code == 403
    assert _client(scenario.charlie).post(f"/t/atelier/{path}").status_code == 404
    assert _client(scenario.charlie).post(f"/t/elsewhere/{path}").status_code == 404
    assert _client(scenario.alice).get(f"/t/atelier/{path}").status_code == 405
    assert TrainingJob.objects.for_team(scenario.team).values().get() == before


def test_viewer_sees_a_training_without_buttons_and_downloads_no_weights(
    scenario: Scenario, job: TrainingJob
) -> None:
    _fill(job, scenario.alice, 1)
    client = _client(scenario.bob)
    page = client.get(f"/t/atelier/trainings/{job.uid}/").content.decode()
    assert "Ink icons" in page
    assert f"/trainings/{job.uid}/cancel/" not in page
    assert "/download/" not in page
    checkpoint = job.checkpoints.get()
    assert client.get(f"/t/atelier/checkpoints/{checkpoint.uid}/download/").status_code == 403
    assert client.get(NEW).status_code == 403


def test_billing_sees_usage_and_no_trainings(scenario: Scenario, job: TrainingJob) -> None:
    actor = make_member(scenario.team, Role.BILLING)
    page = _client(actor).get("/t/atelier/")
    assert page.status_code == 200
    assert "Ink icons" not in page.content.decode()


# -- Starting ---------------------------------------------------------------------------------------------------


def test_start_makes_one_job_however_often_it_is_pressed(scenario: Scenario) -> None:
    make_version(scenario.alice)
    make_base()
    data = _form(scenario)
    client = _client(scenario.alice)
    answers = [client.post(NEW, data) for _ in range(2)]
    job = TrainingJob.objects.for_team(scenario.team).get()
    assert [(a.status_code, a["Location"]) for a in answers] == [
        (303, f"/t/atelier/trainings/{job.uid}/")
    ] * 2
    assert (job.name, job.state, job.template) == ("Ink icons", JobState.QUEUED, "style")
    assert job.spec["training"]["steps"] == 100


def test_a_changed_value_is_kept_and_untouched_ones_follow_the_recommendation(scenario: Scenario) -> None:
    make_version(scenario.alice)
    make_base()
    data = _form(scenario, **{"method.rank": "12", "training.batch_size": "16"})
    _client(scenario.alice).post(NEW, data)
    spec = TrainingJob.objects.for_team(scenario.team).get().spec
    assert (spec["method"]["rank"], spec["training"]["batch_size"]) == (12, 16)
    # The learning rate was not touched: it follows the larger batch.
    assert spec["training"]["learning_rate"] == 1.4e-3


def test_a_wrong_value_is_answered_with_the_form_and_starts_nothing(scenario: Scenario) -> None:
    make_version(scenario.alice)
    make_base()
    data = _form(scenario, **{"method.rank": "0", "name": ""})
    answer = _client(scenario.alice).post(NEW, data)
    assert answer.status_code == 422
    page = answer.content.decode()
    assert "Rank must be between 1 and 512." in page
    assert "This field is required." in page
    assert TrainingJob.objects.for_team(scenario.team).count() == 0


def test_a_change_is_answered_with_the_forecast_and_starts_nothing(scenario: Scenario) -> None:
    make_version(scenario.alice)
    make_base()
    data = _form(scenario, **{"training.steps": "50"})
    del data["action"]
    answer = _client(scenario.alice).post(NEW, data, headers={"HX-Request": "true"})
    page = answer.content.decode()
    assert answer.status_code == 200
    assert answer.context["draft"].estimate.steps == 50
    assert 'id="forecast"' in page
    assert "<html" not in page
    assert TrainingJob.objects.for_team(scenario.team).count() == 0


def test_a_fix_is_applied_and_the_settings_are_drawn_again(scenario: Scenario) -> None:
    make_version(scenario.alice)
    make_base()
    data = _form(scenario, **{"training.learning_rate": "0.1"})
    del data["action"]
    client = _client(scenario.alice)
    warned = client.post(NEW, data, headers={"HX-Request": "true"})
    [(problem, fix)] = [pair for pair in warned.context["fixes"] if pair[0].code == "learning_rate"]
    assert problem.fix.label == "Use 0.001"
    mended = client.post(NEW, {**data, "fix": fix}, headers={"HX-Request": "true"})
    assert mended.context["draft"].recipe.values["/training/learning_rate"] == 1e-3
    assert not [pair for pair in mended.context["fixes"] if pair[0].code == "learning_rate"]
    assert "hx-swap-oob" in mended.content.decode()
    assert 'id="settings"' in mended.content.decode()


def test_a_dataset_is_frozen_at_the_start(scenario: Scenario) -> None:
    from projects.models import Dataset, DatasetVersion, Item

    version = make_version(scenario.alice)
    make_base()
    dataset = Dataset.objects.create(
        team=scenario.team, project=version.dataset.project, name="Fresh", created_by=scenario.alice.user
    )
    for seed in "bcd":
        blob = make_blob(scenario.alice, seed)
        Item.objects.create(
            team=scenario.team, dataset=dataset, blob=blob, filename=f"{seed}.png", caption="a dog"
        )
    _client(scenario.alice).post(NEW, _form(scenario, source=dataset.uid))
    job = TrainingJob.objects.for_team(scenario.team).get()
    frozen = DatasetVersion.objects.for_team(scenario.team).get(dataset=dataset)
    assert (job.dataset_version, frozen.item_count) == (frozen, 3)


def test_epochs_can_be_chosen_instead_of_steps(scenario: Scenario) -> None:
    make_version(scenario.alice)
    make_base()
    data = _form(scenario, length_unit="epochs")
    shown = _client(scenario.alice).post(NEW, {**data, "action": "update"})
    length = shown.context["draft"].basic[0]
    assert (length.info.pointer, length.value, length.recommended) == ("/training/epochs", 33, 33)
    del data["recommended.training.steps"], data["training.steps"]
    data |= {"recommended.training.epochs": "33", "training.epochs": "7"}
    _client(scenario.alice).post(NEW, data)
    spec = TrainingJob.objects.for_team(scenario.team).get().spec
    assert (spec["training"]["steps"], spec["training"]["epochs"]) == (None, 7)


def test_pictures_of_another_team_cannot_be_chosen(scenario: Scenario) -> None:
    make_version(scenario.alice)
    foreign = make_version(scenario.charlie)
    make_base()
    answer = _client(scenario.alice).post(NEW, _form(scenario, source=foreign.uid))
    assert answer.status_code == 422
    assert TrainingJob.objects.for_team(scenario.team).count() == 0


def test_training_again_begins_with_the_old_values(scenario: Scenario, job: TrainingJob) -> None:
    spec = {**job.spec, "method": {**job.spec["method"], "rank": 5}}
    TrainingJob.objects.for_team(scenario.team).filter(pk=job.pk).update(spec=spec)
    page = _client(scenario.alice).get(f"{NEW}?clone={job.uid}")
    draft = page.context["draft"]
    assert draft.recipe.values["/method/rank"] == 5
    assert (page.context["form"].data["name"], page.context["form"].data["trigger"]) == (
        "Ink icons",
        "ink style",
    )


# -- One training -----------------------------------------------------------------------------------------------


def test_a_waiting_training_says_what_it_waits_for(scenario: Scenario, job: TrainingJob) -> None:
    page = _client(scenario.alice).get(f"/t/atelier/trainings/{job.uid}/").content.decode()
    assert "Place 1 in the queue" in page
    assert "No worker is running." in page


def test_cancel_ends_a_waiting_training(scenario: Scenario, job: TrainingJob) -> None:
    answer = _client(scenario.alice).post(f"/t/atelier/trainings/{job.uid}/cancel/")
    assert (answer.status_code, answer["Location"]) == (303, f"/t/atelier/trainings/{job.uid}/")
    job.refresh_from_db()
    assert job.state == JobState.CANCELED


def test_a_failed_training_is_retried_with_the_offered_change_once(
    scenario: Scenario, job: TrainingJob
) -> None:
    _set(
        job,
        JobState.FAILED,
        error_code="out_of_memory",
        error_message="It does not fit.",
        error_patch={"/training/batch_size": 4},
    )
    client = _client(scenario.alice)
    page = client.get(f"/t/atelier/trainings/{job.uid}/").content.decode()
    assert "It does not fit." in page
    assert "Retry with batch size 4" in page
    data = {"patch": "1", "form_token": f"{job.uid}-fix"}
    answers = [client.post(f"/t/atelier/trainings/{job.uid}/retry/", data) for _ in range(2)]
    [new] = TrainingJob.objects.for_team(scenario.team).exclude(pk=job.pk)
    assert {a["Location"] for a in answers} == {f"/t/atelier/trainings/{new.uid}/"}
    assert (new.retry_of, new.spec["training"]["batch_size"]) == (job, 4)


def test_the_first_paint_holds_everything_up_to_its_number(scenario: Scenario, job: TrainingJob) -> None:
    _set(job, JobState.RUNNING, step=40, total_steps=100, phase="train", last_seq=101)
    _fill(job, scenario.alice, 3)
    page = _client(scenario.alice).get(f"/t/atelier/trainings/{job.uid}/")
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
    _fill(job, scenario.alice, 2)
    answer = _client(scenario.bob).get(f"/t/atelier/trainings/{job.uid}/events/?after=1")
    assert answer.status_code == 200
    body = json.loads(answer.content)
    assert [(each["seq"], each["type"]) for each in body["items"]] == [(100, "log"), (101, "log")]
    assert body["head"] == 101


@pytest.mark.parametrize("part", ["head", "samples", "files"])
def test_a_part_of_the_page_is_drawn_alone(scenario: Scenario, job: TrainingJob, part: str) -> None:
    _fill(job, scenario.alice, 2)
    text = _client(scenario.alice).get(f"/t/atelier/trainings/{job.uid}/?part={part}").content.decode()
    assert f'id="job-{part}"' in text
    assert "<html" not in text


def test_sample_pictures_are_kept_by_the_browser_and_never_sniffed(
    scenario: Scenario, job: TrainingJob
) -> None:
    _fill(job, scenario.alice, 1)
    answer = _client(scenario.bob).get(f"/t/atelier/samples/{job.samples.get().uid}/")
    assert answer["Content-Type"] == "image/png"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert "immutable" in answer["Cache-Control"]


def test_a_checkpoint_is_downloaded_under_the_trainings_name(scenario: Scenario, job: TrainingJob) -> None:
    _fill(job, scenario.alice, 1)
    answer = _client(scenario.alice).get(f"/t/atelier/checkpoints/{job.checkpoints.get().uid}/download/")
    assert "Ink_icons-step00000000.safetensors" in answer["Content-Disposition"]


# -- Lists and cost ---------------------------------------------------------------------------------------------


def test_the_list_is_narrowed_by_state(scenario: Scenario, job: TrainingJob) -> None:
    client = _client(scenario.bob)
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
    page = _client(scenario.alice).get("/t/atelier/").content.decode()
    assert "Bring pictures" in page
    assert "Press Start" in page


@pytest.mark.parametrize("path", ["", "trainings/"])
def test_lists_cost_the_same_for_two_trainings_and_for_twenty(
    scenario: Scenario, job: TrainingJob, path: str
) -> None:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    client = _client(scenario.alice)
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
            _fill(new, scenario.alice, 1)
        with CaptureQueriesContext(connection) as queries:
            assert client.get(f"/t/atelier/{path}").status_code == 200
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 16


def test_the_page_of_a_training_costs_the_same_after_two_rounds_and_twenty(
    scenario: Scenario, job: TrainingJob
) -> None:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    client = _client(scenario.alice)
    counts = []
    for rounds in (2, 20):
        new = create_job(
            actor=scenario.alice,
            dataset_version=job.dataset_version,
            foundation_model=job.foundation_model,
            template="style",
            name="More",
        )
        _fill(new, scenario.alice, rounds)
        with CaptureQueriesContext(connection) as queries:
            assert client.get(f"/t/atelier/trainings/{new.uid}/").status_code == 200
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 18
