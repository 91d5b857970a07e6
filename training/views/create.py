"""The page that starts a training. One function works out the forecast, for a change as for the start."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import Any

from django.http import HttpResponse, HttpResponseRedirect, QueryDict
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from accounts.roles import Can
from accounts.web import TeamRequest, team_view
from core.errors import DomainError, NotFound
from projects.models import Dataset, DatasetVersion
from projects.services.versions import freeze_dataset
from training import selectors
from training.advisor.problems import Fix, Needs, Problem, find_problems
from training.advisor.recommend import Pictures, default_prompts
from training.advisor.templates import TEMPLATES, Template, TemplateKey, template_for
from training.engine.spec import FIELDS
from training.forms import RECOMMENDED, Setting, TrainingForm, changed_since, grouped, read_settings, setting
from training.models import FoundationModel
from training.queue.gang import most_gpus
from training.queue.outlook import Outlook, outlook_of_new
from training.queue.policy import Rules, class_of_need
from training.queue.rules import rules
from training.services.budget import Budget, budget_for
from training.services.estimates import Estimate, estimate_run
from training.services.express import place_in_line
from training.services.jobs import create_job
from training.services.recipes import (
    Recipe,
    best_device,
    describe_base,
    describe_pictures,
    flatten,
    make_recipe,
    suggest_trigger,
)
from training.states import WaitsFor

Source = DatasetVersion | Dataset


@dataclass(slots=True)
class Draft:
    """Hold everything the page shows of the training that is being set up."""

    base: FoundationModel
    source: Source
    template: Template
    pictures: Pictures
    recipe: Recipe
    unit: str
    estimate: Estimate | None
    outlook: Outlook
    problems: list[Problem]
    budget: Budget | None
    is_express: bool
    rules: Rules

    @property
    def blocked(self) -> bool:
        """Tell whether something must be mended before the start."""
        return self.recipe.spec is None or any(problem.level == "error" for problem in self.problems)

    @property
    def basic(self) -> list[Setting]:
        """Give the three sliders: length, rank, learning rate."""
        return [
            self._length(),
            setting(self.recipe, "/method/rank"),
            setting(self.recipe, "/training/learning_rate"),
        ]

    @property
    def groups(self) -> list[tuple[str, list[Setting], int]]:
        return grouped(self.recipe)

    def _length(self) -> Setting:
        if self.unit != "epochs":
            steps = self.recipe.values["/training/steps"]
            shown = self.estimate.steps if steps is None and self.estimate else steps
            return setting(self.recipe, "/training/steps", value=shown)
        per_epoch = self.estimate.steps_per_epoch if self.estimate else 1
        recommended = max(1, round(self.recipe.advice["/training/steps"].value / per_epoch))
        chosen = self.recipe.values["/training/epochs"]
        if chosen is None:
            steps = self.recipe.values["/training/steps"]
            is_recommended = steps == self.recipe.advice["/training/steps"].value
            whole = isinstance(steps, int)
            chosen = recommended if is_recommended or not whole else max(1, round(steps / per_epoch))
        return setting(self.recipe, "/training/epochs", value=chosen, recommended=recommended)


@team_view(can=Can.TRAINING_EDIT)
@require_http_methods(["GET", "POST"])
def job_create(request: TeamRequest) -> HttpResponse:
    """Show the form, answer a change with what follows from it, or start the training."""
    sets = selectors.picture_sets(request.actor)
    bases = selectors.foundation_models()
    if not sets or not bases:
        return render(request, "training/job_create_empty.html", {"has_sets": bool(sets)})
    if request.method == "GET":
        data, chosen = _first_data(request, sets, bases)
    else:
        data = request.POST
        chosen = read_settings(data)
        if fix := data.get("fix"):
            data, chosen = _with_fix(data, chosen, fix)
    form = TrainingForm(data, sets=sets, most_gpus=most_gpus())
    draft = _draft(request, form, data, chosen, sets, bases)
    form.data = data.copy()
    form.data["prompts"] = "\n".join(draft.recipe.values["/sampling/prompts"])
    if request.method == "POST" and data.get("action") == "start" and not data.get("fix"):
        started = _start(request, form, draft, chosen)
        if started is not None:
            return started
        return _page(request, form, draft, bases, status=422)
    # The first view and a mere change complain about nothing that is still empty.
    form.full_clean()
    for name in ("name", "form_token", "source", "base_model", "template"):
        form.errors.pop(name, None)
    if request.method == "POST" and request.htmx:  # type: ignore[attr-defined]
        return render(
            request,
            "training/job_create.html#answer",
            {**_context(form, draft, bases), "settings_changed": _must_redraw(data, draft)},
        )
    return _page(request, form, draft, bases)


def _must_redraw(data: QueryDict, draft: Draft) -> bool:
    """Tell whether the settings on the page are not the ones that hold now: other advice, a fix, another unit."""
    shown_in_epochs = RECOMMENDED + "training.epochs" in data
    return (
        bool(data.get("fix"))
        or shown_in_epochs != (draft.unit == "epochs")
        or changed_since(data, draft.recipe)
    )


def _first_data(
    request: TeamRequest, sets: list[selectors.PictureSet], bases: list[FoundationModel]
) -> tuple[QueryDict, dict[str, Any]]:
    """Return what the form holds at first: from the address, or from the training to do again."""
    data = QueryDict(mutable=True)
    known = {each.uid for each in sets}
    data["form_token"] = secrets.token_hex(16)
    asked = request.GET.get("version") or request.GET.get("dataset") or ""
    data["source"] = asked if asked in known else sets[0].uid
    asked = request.GET.get("base", "")
    data["base_model"] = asked if any(base.key == asked for base in bases) else bases[0].key
    asked = request.GET.get("template", "")
    data["template"] = asked if asked in TEMPLATES else TemplateKey.STYLE.value
    data["length_unit"] = "steps"
    chosen: dict[str, Any] = {}
    if uid := request.GET.get("clone"):
        job = selectors.job_by_uid(request.actor, uid)
        data["name"], data["trigger"] = job.name, job.spec.get("trigger", "")
        data["gpus"] = str(job.gpus)
        data["template"] = job.template
        if job.pictures.uid in known:
            data["source"] = job.pictures.uid
        if any(base.pk == job.foundation_model_id for base in bases):
            data["base_model"] = job.base.key
        data["prompts"] = "\n".join(job.spec["sampling"]["prompts"])
        chosen = flatten({key: value for key, value in job.spec.items() if isinstance(value, dict)})
        chosen = {p: v for p, v in chosen.items() if p not in _NOT_CLONED}
    else:
        name = next(each.name for each in sets if each.uid == data["source"])
        data["name"] = name
        source = selectors.picture_source(request.actor, str(data["source"]))
        data["trigger"] = suggest_trigger(source, name) if source else ""
    return data, chosen


_NOT_CLONED = frozenset(
    {
        "/base_model/path",
        "/base_model/family",
        "/dataset/manifest",
        "/dataset/folder",
        "/sampling/prompts",
    }
)


def _with_fix(data: QueryDict, chosen: dict[str, Any], fix: str) -> tuple[QueryDict, dict[str, Any]]:
    """Return the data with a problem's button applied: `pointer=value` pairs, the values in JSON, separated by `;`."""
    for pair in fix.split(";"):
        pointer, _equals, value = pair.partition("=")
        chosen[pointer] = _fix_value(value)
    data = data.copy()
    if "/training/steps" in chosen:
        data["length_unit"] = "steps"
        chosen.pop("/training/epochs", None)
    return data, chosen


def _fix_value(value: str) -> Any:
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value  # nothing that a button of ours says; the recipe's own check answers it


def _draft(
    request: TeamRequest,
    form: TrainingForm,
    data: QueryDict,
    chosen: dict[str, Any],
    sets: list[selectors.PictureSet],
    bases: list[FoundationModel],
) -> Draft:
    """Work out the whole draft from what the form says; what is wrong in it is replaced by the first choice."""
    known = {each.uid for each in sets}
    uid = data.get("source", "")
    source = selectors.picture_source(request.actor, uid if uid in known else sets[0].uid)
    if source is None:
        raise NotFound
    base = next((each for each in bases if each.key == data.get("base_model")), bases[0])
    key = data.get("template", "")
    template = template_for(key if key in TEMPLATES else TemplateKey.STYLE.value)
    trigger = data.get("trigger", "").strip()
    pictures = describe_pictures(source)
    described = describe_base(base)
    lines = _prompts(data) or default_prompts(described, template)
    recipe = make_recipe(
        base=described,
        template=template,
        pictures=pictures,
        device=best_device(),
        name=data.get("name", "").strip() or _("Untitled"),
        trigger=trigger,
        settings=chosen,
        prompts=lines,
    )
    estimate = budget = None
    values, express = rules(), bool(data.get("express"))
    gpus = _gpus(form, data)
    problems: list[Problem] = []
    team = request.actor.team
    if recipe.spec is not None:
        estimate = estimate_run(recipe.spec, base, team=team, pictures=pictures.count, gpus=gpus)
        problems = find_problems(
            recipe.spec,
            recipe.advice,
            template,
            pictures,
            Needs(estimate.memory_mb, estimate.device_mb, estimate.seconds),
            estimate.views,
        )
        budget = budget_for(team, base, estimate, rate=gpus * (values.express_rate if express else 1.0))
        problems += budget.problems
    else:
        problems = [
            Problem(error.code, "error", error.message, _back(recipe, error.pointer))
            for error in recipe.errors
        ]
    outlook = outlook_of_new(
        team,
        gpu_gb=class_of_need(estimate.memory_mb) if estimate else 0,
        line_at=place_in_line(timezone.now(), is_express=express),
        gpus=gpus,
    )
    if outlook.reason == WaitsFor.WORKER:
        problems.append(
            Problem("no_worker", "warning", _("No worker is running. The training waits until one does."))
        )
    elif outlook.reason == WaitsFor.GPU:
        message = _("No worker has a GPU of %(gb)s GB. The training waits until one does.")
        problems.append(Problem("no_gpu", "warning", message % {"gb": outlook.gpu_gb}))
    unit = "epochs" if data.get("length_unit") == "epochs" else "steps"
    return Draft(
        base, source, template, pictures, recipe, unit, estimate, outlook, problems, budget, express, values
    )


def _gpus(form: TrainingForm, data: QueryDict) -> int:
    """Return how many GPUs the person chose among those that are offered."""
    offered = {str(count): count for count, _label in form.fields["gpus"].choices}  # type: ignore[attr-defined]
    return offered.get(data.get("gpus", ""), 1)


def _prompts(data: QueryDict) -> list[str]:
    """Return the person's own prompts; none if they are still the ones that were offered."""
    lines = [line.strip() for line in data.get("prompts", "").splitlines() if line.strip()]
    return [] if json.dumps(lines) == data.get("prompts_offered") else lines


def _back(recipe: Recipe, pointer: str) -> Fix | None:
    advice = recipe.advice.get(pointer)
    if advice is None or FIELDS[pointer].kind == "list":  # texts have a place of their own on the page
        return None
    return Fix(_("Use the recommended value"), {pointer: advice.value})


def _start(
    request: TeamRequest, form: TrainingForm, draft: Draft, chosen: dict[str, Any]
) -> HttpResponse | None:
    """Start the training and go to its page; None if something is wrong, which the form then says."""
    if not form.is_valid() or draft.blocked:
        return None
    values = form.cleaned_data
    try:
        version = draft.source
        if isinstance(version, Dataset):
            version = freeze_dataset(actor=request.actor, uid=version.uid)
        job = create_job(
            actor=request.actor,
            dataset_version=version,
            foundation_model=values["base_model"],
            template=values["template"],
            name=values["name"],
            trigger=values["trigger"],
            settings=chosen,
            prompts=draft.recipe.values["/sampling/prompts"],
            priority="express" if values["express"] else "standard",
            gpus=values["gpus"] or 1,
            form_token=values["form_token"],
        )
    except DomainError as error:
        if error.status in (403, 404):
            raise
        form.add_error(None, error.message)
        return None
    return HttpResponseRedirect(reverse("training:job", args=[request.actor.team.slug, job.uid]), status=303)


def _context(form: TrainingForm, draft: Draft, bases: list[FoundationModel]) -> dict[str, Any]:
    prompts = draft.recipe.values["/sampling/prompts"]
    return {
        "form": form,
        "draft": draft,
        "bases": bases,
        "templates": list(TEMPLATES.values()),
        "strip": selectors.picture_strip(draft.source),
        "prompts": "\n".join(prompts),
        "prompts_offered": json.dumps(default_prompts(describe_base(draft.base), draft.template)),
        "offered": draft.base.prompts,
        "has_several_gpus": len(form.fields["gpus"].choices) > 1,  # type: ignore[attr-defined]
        "fixes": [
            (
                problem,
                ";".join(f"{k}={json.dumps(v)}" for k, v in problem.fix.values.items())
                if problem.fix
                else "",
            )
            for problem in draft.problems
        ],
    }


def _page(
    request: TeamRequest, form: TrainingForm, draft: Draft, bases: list[FoundationModel], status: int = 200
) -> HttpResponse:
    context = {**_context(form, draft, bases), "settings_changed": False}
    return render(request, "training/job_create.html", context, status=status)
