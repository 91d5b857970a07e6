"""A short chaos with real processes, and each of its checks shown a fault that it must see."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from django.conf import settings

from bench.chaos import checks
from bench.chaos.facts import AttemptFacts, Facts, JobFacts
from bench.chaos.oracle import Step

# -- A chaos that went well: two jobs, one of which lost its first worker after step 7 -----------------------------


def steps_of(job: str, fence: int, first: int, last: int, *, began: float) -> list[Step]:
    return [
        Step(job, fence, 40 + fence, number, began + number, began + number + 1, began + number + 1)
        for number in range(first, last + 1)
    ]


def attempt(fence: int, outcome: str, started: float, ended: float, first_step: int = 0) -> AttemptFacts:
    useful = outcome == "succeeded"
    return AttemptFacts(fence, outcome, started, ended, first_step, ended - started, useful)


def job(uid: str, *attempts: AttemptFacts) -> JobFacts:
    return JobFacts(
        uid=uid,
        name=f"job {uid}",
        model="tiny",
        may_end=("succeeded",),
        state="succeeded",
        step=10,
        total_steps=10,
        crashes=len(attempts) - 1,
        last_seq=3,
        seqs=[1, 2, 3],
        curve=list(range(1, 11)),
        attempts=list(attempts),
        bills=len(attempts),
        versions=1,
        weights="same",
    )


def good() -> Facts:
    whole = job("a", attempt(1, "succeeded", 1000, 1020))
    hit = job("b", attempt(1, "crashed", 1000, 1012), attempt(3, "succeeded", 1013, 1033, first_step=5))
    return Facts(
        jobs=[whole, hit],
        quiet={"tiny": "same"},
        steps={
            "a": steps_of("a", 1, 1, 10, began=1001),
            "b": [*steps_of("b", 1, 1, 7, began=1001), *steps_of("b", 3, 6, 10, began=1010)],
        },
        held=0,
        used=40,
        leases=0,
        open_attempts=0,
        reservations=0,
        waiting_letters=0,
        folders=[],
        web_answers=True,
        lease=12.0,
        engine_lease=2.0,
        cadence=5,
    )


def changed(facts: Facts, uid: str, **fields: Any) -> Facts:
    """Return the facts with other fields in one job."""
    return replace(facts, jobs=[replace(each, **fields) if each.uid == uid else each for each in facts.jobs])


def other_attempts(facts: Facts, **fields: Any) -> Facts:
    """Return the facts with other fields in the first attempt of job b."""
    first, *rest = facts.jobs[1].attempts
    return changed(facts, "b", attempts=[replace(first, **fields), *rest])


def other_steps(facts: Facts, steps: list[Step]) -> Facts:
    return replace(facts, steps={**facts.steps, "b": steps})


def stale(facts: Facts) -> Facts:
    """The first attempt of job b makes one more step while the second one runs."""
    last = facts.steps["b"][6]
    return other_steps(facts, [*facts.steps["b"], replace(last, number=8, began=1014, ended=1015)])


def far_back(facts: Facts) -> Facts:
    """Job b begins anew although it had saved at step 5, and its first attempt was heard until its end."""
    first, second = facts.jobs[1].attempts
    begun = [*facts.steps["b"][:7], *steps_of("b", 3, 1, 10, began=1013)]
    return other_steps(changed(facts, "b", attempts=[first, replace(second, first_step=0)]), begun)


FAULTS: dict[str, list[Callable[[Facts], Facts]]] = {
    "every job ended as it should": [
        lambda facts: changed(facts, "a", state="failed"),
        lambda facts: changed(facts, "a", may_end=("canceled",)),
    ],
    "no step was made beside a later attempt": [stale],
    "every step was made, told once, in order": [
        lambda facts: other_steps(facts, facts.steps["b"][:-1]),
        lambda facts: other_steps(facts, [*facts.steps["b"], facts.steps["b"][-1]]),
        lambda facts: changed(facts, "a", curve=[1, 2, 4, 5, 6, 7, 8, 9, 10]),
        lambda facts: changed(facts, "a", seqs=[1, 3, 3]),
        lambda facts: changed(facts, "a", step=9),
    ],
    "steps made again are within the cadence": [lambda facts: far_back(replace(facts, cadence=1))],
    "no lease, reserve, attempt or folder is left": [
        lambda facts: replace(facts, held=1),
        lambda facts: replace(facts, leases=1),
        lambda facts: replace(facts, open_attempts=1),
        lambda facts: replace(facts, reservations=1),
        lambda facts: replace(facts, waiting_letters=1),
        lambda facts: replace(facts, folders=["trn_a"]),
        lambda facts: replace(facts, web_answers=False),
    ],
    "billed seconds are those of the useful attempts": [
        lambda facts: replace(facts, used=52),
        lambda facts: changed(facts, "b", bills=3),
        lambda facts: other_attempts(facts, billed=11.9),
        lambda facts: other_attempts(facts, billed=None),
        lambda facts: other_attempts(facts, useful=True),
    ],
    "one version for each file, none doubled": [
        lambda facts: changed(facts, "a", versions=2),
        lambda facts: changed(facts, "a", versions=0),
    ],
    "weights are bit-equal to undisturbed runs": [lambda facts: changed(facts, "a", weights="other")],
    "undisturbed runs outlast the lease": [lambda facts: replace(facts, lease=30.0)],
}


def test_a_chaos_that_went_well_passes_every_check() -> None:
    assert {name: check(good()) for name, check in checks.CHECKS.items()} == {
        key: [] for key in checks.CHECKS
    }


@pytest.mark.parametrize(
    ("name", "fault"), [(name, fault) for name, faults in FAULTS.items() for fault in faults]
)
def test_each_check_sees_its_faults(name: str, fault: Callable[[Facts], Facts]) -> None:
    assert checks.CHECKS[name](fault(good()))


def test_no_check_is_without_a_fault_that_it_sees() -> None:
    assert FAULTS.keys() == checks.CHECKS.keys()


@pytest.mark.slow
def test_trainings_survive_the_death_of_everything() -> None:
    """Engine and worker killed, a worker frozen, Valkey emptied, PostgreSQL stopped at once."""
    hidden = ("DATABASE_URL", "REDIS_URL", "PYTEST_", "DJANGO_SETTINGS_MODULE", "LF_")
    done = subprocess.run(
        [sys.executable, "-m", "bench.chaos", "--short"],
        cwd=settings.BASE_DIR,
        env={name: value for name, value in os.environ.items() if not name.startswith(hidden)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    for fault in (
        "kill engine",
        "kill worker",
        "freeze",
        "(Valkey came back empty)",
        "stop Postgres at once",
    ):
        assert fault in done.stdout
