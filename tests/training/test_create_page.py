"""The page that starts a training: its form, its forecast and fixes, and the one job that comes of it."""

from __future__ import annotations

import pytest

from tests.scenario import Scenario
from tests.training.conftest import client_of
from tests.training.rows import make_base, make_blob, make_version
from training.engine.spec import FIELDS
from training.forms import Setting
from training.models import TrainingJob
from training.states import JobState

NEW = "/t/atelier/trainings/new/"


def _form(scenario: Scenario, **changed: str) -> dict[str, str]:
    """Fill in the form as the page offers it."""
    page = client_of(scenario.alice).get(NEW)
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


def test_start_makes_one_job_however_often_it_is_pressed(scenario: Scenario) -> None:
    make_version(scenario.alice)
    make_base()
    data = _form(scenario)
    client = client_of(scenario.alice)
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
    client_of(scenario.alice).post(NEW, data)
    spec = TrainingJob.objects.for_team(scenario.team).get().spec
    assert (spec["method"]["rank"], spec["training"]["batch_size"]) == (12, 16)
    # The learning rate was not touched: it follows the larger batch.
    assert spec["training"]["learning_rate"] == 1.4e-3


def test_a_wrong_value_is_answered_with_the_form_and_starts_nothing(scenario: Scenario) -> None:
    make_version(scenario.alice)
    make_base()
    data = _form(scenario, **{"method.rank": "0", "name": ""})
    answer = client_of(scenario.alice).post(NEW, data)
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
    answer = client_of(scenario.alice).post(NEW, data, headers={"HX-Request": "true"})
    page = answer.content.decode()
    assert answer.status_code == 200
    assert answer.context["draft"].estimate.steps == 50
    assert "What will happen" in page
    assert "<html" not in page
    assert TrainingJob.objects.for_team(scenario.team).count() == 0


def test_a_fix_is_applied_and_the_settings_are_drawn_again(scenario: Scenario) -> None:
    make_version(scenario.alice)
    make_base()
    data = _form(scenario, **{"training.learning_rate": "0.1"})
    del data["action"]
    client = client_of(scenario.alice)
    warned = client.post(NEW, data, headers={"HX-Request": "true"})
    [(problem, fix)] = [pair for pair in warned.context["fixes"] if pair[0].code == "learning_rate"]
    assert problem.fix.label == "Use 0.001"
    mended = client.post(NEW, {**data, "fix": fix}, headers={"HX-Request": "true"})
    assert mended.context["draft"].recipe.values["/training/learning_rate"] == 1e-3
    assert not [pair for pair in mended.context["fixes"] if pair[0].code == "learning_rate"]
    assert "hx-swap-oob" in mended.content.decode()
    assert 'id="settings"' in mended.content.decode()


def _shown(scenario: Scenario, **changed: str) -> tuple[dict[str, Setting], str]:
    """Return the advanced settings by name, and the page, after a change."""
    answer = client_of(scenario.alice).post(NEW, _form(scenario, **{**changed, "action": "update"}))
    settings = [setting for _t, found, _n in answer.context["draft"].groups for setting in found]
    return {setting.name: setting for setting in settings}, answer.content.decode()


def test_smaller_resolutions_are_a_list_of_numbers(scenario: Scenario) -> None:
    make_version(scenario.alice)
    make_base()
    untouched, page = _shown(scenario)
    assert untouched["training.resolutions"].shown == ""
    assert 'name="training.resolutions" value=""' in page
    typed = {"training.resolution": "128", "training.resolutions": "96，64;32"}
    settings, page = _shown(scenario, **typed)
    assert settings["training.resolutions"].value == [96, 64, 32]
    assert 'name="training.resolutions" value="96, 64, 32"' in page
    client_of(scenario.alice).post(NEW, _form(scenario, **typed))
    client_of(scenario.alice).post(NEW, _form(scenario))
    jobs = TrainingJob.objects.for_team(scenario.team).order_by("pk")
    several, plain = (job.spec["training"] for job in jobs)
    assert (plain["resolution"], plain["resolutions"]) == (64, [])
    assert (several["resolution"], several["resolutions"]) == (128, [96, 64, 32])


def test_training_again_keeps_the_smaller_resolutions(scenario: Scenario, job: TrainingJob) -> None:
    spec = {**job.spec, "training": {**job.spec["training"], "resolution": 128, "resolutions": [96, 64]}}
    TrainingJob.objects.for_team(scenario.team).filter(pk=job.pk).update(spec=spec)
    page = client_of(scenario.alice).get(f"{NEW}?clone={job.uid}").content.decode()
    assert 'name="training.resolutions" value="96, 64"' in page


@pytest.mark.parametrize(
    ("typed", "complaint"),
    [
        ("32 and 48", "Smaller resolutions must be a list of whole numbers, for example 512, 768."),
        ("8", "Smaller resolutions must be between 32 and 4096."),
        ("50", "Smaller resolutions: 50 is not a multiple of 8."),
        ("96", "Smaller resolutions: none of them may be larger than the resolution."),
        ("32, " * 9, "Smaller resolutions: at most 8 numbers."),
    ],
)
def test_wrong_resolutions_are_named_and_can_be_put_back(
    scenario: Scenario, typed: str, complaint: str
) -> None:
    make_version(scenario.alice)
    make_base()
    client, data = client_of(scenario.alice), _form(scenario, **{"training.resolutions": typed})
    answer = client.post(NEW, data)
    assert answer.status_code == 422
    assert f"<span>{complaint}</span>" in answer.content.decode()
    assert TrainingJob.objects.for_team(scenario.team).count() == 0
    [(problem, fix)] = [pair for pair in answer.context["fixes"] if pair[0].level == "error"]
    assert (problem.message, problem.fix.label) == (complaint, "Use the recommended value")
    mended = client.post(NEW, {**data, "fix": fix})
    assert mended.context["draft"].recipe.values["/training/resolutions"] == []
    assert mended.context["draft"].recipe.errors == []


def test_what_no_button_says_is_answered_as_a_wrong_setting(scenario: Scenario) -> None:
    make_version(scenario.alice)
    make_base()
    for fix in ("/training/seed={", "/training/seed=" + "[" * 5000, '/training/seed={"a": 1}', "x"):
        answer = client_of(scenario.alice).post(NEW, _form(scenario, fix=fix))
        assert answer.context["draft"].recipe.spec is None
    assert TrainingJob.objects.for_team(scenario.team).count() == 0


def test_unit_is_written_where_the_label_does_not_say_it(scenario: Scenario) -> None:
    make_version(scenario.alice)
    make_base()
    page = client_of(scenario.alice).get(NEW).content.decode()
    assert 'Batch size<span class="field-optional">pictures</span>' in page
    assert 'for="id_prior-count">Class pictures<span class="tooltip' in page


def test_shapes_of_buckets_reach_the_recipe(scenario: Scenario) -> None:
    make_version(scenario.alice)
    make_base()
    shapes = {"buckets.step": "8", "buckets.aspect_limit": "1", "buckets.small_pictures": "own_size"}
    settings, _page = _shown(scenario, **shapes, **{"buckets.fill": "on"})
    assert {name for name in settings if name.startswith("buckets.")} == {
        pointer.strip("/").replace("/", ".") for pointer in FIELDS if pointer.startswith("/buckets/")
    }
    client_of(scenario.alice).post(NEW, _form(scenario, **shapes, **{"buckets.fill": "on"}))
    spec = TrainingJob.objects.for_team(scenario.team).get().spec
    assert spec["buckets"] == {
        "enlarge": 1.5,
        "small_pictures": "own_size",
        "step": 8,
        "smallest_side": None,
        "largest_side": None,
        "aspect_limit": 1.0,
        "fill": True,
    }
    wrong, _page = _shown(scenario, **{"buckets.smallest_side": "72", "buckets.largest_side": "56"})
    assert wrong["buckets.smallest_side"].error == (
        "Smallest side of a bucket: it must not be larger than the smallest resolution."
    )
    assert wrong["buckets.largest_side"].error == (
        "Largest side of a bucket: it must not be smaller than the resolution."
    )


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
    client_of(scenario.alice).post(NEW, _form(scenario, source=dataset.uid))
    job = TrainingJob.objects.for_team(scenario.team).get()
    frozen = DatasetVersion.objects.for_team(scenario.team).get(dataset=dataset)
    assert (job.dataset_version, frozen.item_count) == (frozen, 3)


def test_epochs_can_be_chosen_instead_of_steps(scenario: Scenario) -> None:
    make_version(scenario.alice)
    make_base()
    data = _form(scenario, length_unit="epochs")
    shown = client_of(scenario.alice).post(NEW, {**data, "action": "update"})
    length = shown.context["draft"].basic[0]
    assert (length.info.pointer, length.value, length.recommended) == ("/training/epochs", 33, 33)
    del data["recommended.training.steps"], data["training.steps"]
    data |= {"recommended.training.epochs": "33", "training.epochs": "7"}
    client_of(scenario.alice).post(NEW, data)
    spec = TrainingJob.objects.for_team(scenario.team).get().spec
    assert (spec["training"]["steps"], spec["training"]["epochs"]) == (None, 7)


def test_samples_can_be_drawn_by_epochs_instead_of_steps(scenario: Scenario) -> None:
    make_version(scenario.alice)
    make_base()
    client = client_of(scenario.alice)
    data = _form(scenario, **{"sampling.every_epochs": "3"})
    shown = client.post(NEW, {**data, "action": "update"})
    values = {
        each.name: each.shown for _t, settings, _n in shown.context["draft"].groups for each in settings
    }
    assert (values["sampling.every_steps"], values["sampling.every_epochs"]) == ("", "3")
    client.post(NEW, data)
    # As the page shows it after the change: the steps are empty now.
    client.post(NEW, {**data, "form_token": "t2", "sampling.every_steps": ""})
    jobs = TrainingJob.objects.for_team(scenario.team)
    assert [(job.spec["sampling"]["every_steps"], job.spec["sampling"]["every_epochs"]) for job in jobs] == [
        (None, 3)
    ] * 2


def test_pictures_of_another_team_cannot_be_chosen(scenario: Scenario) -> None:
    make_version(scenario.alice)
    foreign = make_version(scenario.charlie)
    make_base()
    answer = client_of(scenario.alice).post(NEW, _form(scenario, source=foreign.uid))
    assert answer.status_code == 422
    assert TrainingJob.objects.for_team(scenario.team).count() == 0


def test_training_again_begins_with_the_old_values(scenario: Scenario, job: TrainingJob) -> None:
    spec = {**job.spec, "method": {**job.spec["method"], "rank": 5}}
    TrainingJob.objects.for_team(scenario.team).filter(pk=job.pk).update(spec=spec)
    page = client_of(scenario.alice).get(f"{NEW}?clone={job.uid}")
    draft = page.context["draft"]
    assert draft.recipe.values["/method/rank"] == 5
    assert (page.context["form"].data["name"], page.context["form"].data["trigger"]) == (
        "Ink icons",
        "ink style",
    )
