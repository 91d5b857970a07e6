"""What is likely to disappoint, seen before the run from its recipe and from facts about the pictures."""

from __future__ import annotations

from training.engine.hints import about_pictures, about_recipe
from training.engine.hints.facts import Advice, Condition, SetFacts
from training.engine.hints.hint import applicable
from training.engine.spec import RunSpec

CONDITIONS: tuple[Condition, ...] = (*about_recipe.CONDITIONS, *about_pictures.CONDITIONS)
"""Everything that is looked at before a run."""


def warnings_for(spec: RunSpec, facts: SetFacts) -> list[Advice]:
    """Return what is likely to disappoint in this run, in the order of ``CONDITIONS``."""
    advice = []
    for condition in CONDITIONS:
        found = condition.check(spec, facts)
        if found is not None:
            patch = applicable(found.patch, spec)
            advice.append(Advice(condition.code, condition.text, found.values, condition.hint, patch))
    return advice
