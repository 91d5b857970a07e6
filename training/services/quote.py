"""Say what a training would take and be charged, without starting it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from accounts.actor import Actor, require
from accounts.roles import Can
from billing.entitlements import plan_of
from projects.models import DatasetVersion
from training.advisor.templates import template_for
from training.models import FoundationModel
from training.queue.policy import class_of_need
from training.services.estimates import Estimate, estimate_run
from training.services.express import rate_of
from training.services.jobs import require_gpus
from training.services.metering import reserved_for
from training.services.recipes import (
    best_device,
    describe_base,
    describe_pictures,
    make_recipe,
    require_valid,
)


@dataclass(frozen=True, slots=True)
class Quote:
    """Hold the forecast of a training, what each of its seconds is charged as, and the GPU time that means.

    `charged` is what it is likely charged and `held` what its start reserves, in seconds: both 0 where nothing is
    charged by the second.
    """

    estimate: Estimate
    rate: float
    charged: int
    held: int


def quote_training(
    *,
    actor: Actor,
    dataset_version: DatasetVersion,
    foundation_model: FoundationModel,
    template: str,
    name: str,
    trigger: str = "",
    settings: Mapping[str, Any] | None = None,
    prompts: Sequence[str] | None = None,
    priority: str = "standard",
    gpus: int = 1,
) -> Quote:
    """Return the quote for what `create_job` takes.

    Raise PermissionDenied or DomainError (`invalid_settings`, `express_not_offered`, `too_many_gpus`).
    """
    require(actor, Can.TRAINING_VIEW)
    recipe = make_recipe(
        base=describe_base(foundation_model),
        template=template_for(template),
        pictures=describe_pictures(dataset_version),
        device=best_device(),
        name=name,
        trigger=trigger,
        settings=settings,
        prompts=prompts,
    )
    spec, team = require_valid(recipe), actor.team
    estimate = estimate_run(spec, foundation_model, team=team, pictures=dataset_version.item_count, gpus=gpus)
    rate = rate_of(team, is_express=priority == "express", gpus=gpus)
    is_test = bool(actor.api_key and actor.api_key.is_test)
    if not is_test:
        require_gpus(gpus, spec, class_of_need(estimate.memory_mb))
    if is_test or not plan_of(team).is_metered:
        return Quote(estimate, rate, charged=0, held=0)
    seconds = estimate.seconds
    return Quote(estimate, rate, charged=math.ceil(seconds * rate), held=reserved_for(seconds, rate))
