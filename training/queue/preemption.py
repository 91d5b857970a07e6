"""Who has to make room, and for whom. Pure.

A training of a plan that may preempt, which has waited long enough and finds no slot that is free soon, takes the
place of a running one of a smaller plan. That one saves, goes back to its old place in the queue and loses nothing.

Short work does the same, sooner and whatever the plan: a training lets it pass if it is of the same team, or of a plan
that is preemptible and no larger. It is away for as long as the short work takes, and then runs for two minutes at
least before it lets its own team's pass, and for fifteen before it lets others pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from training.queue.policy import Rules


@dataclass(frozen=True, slots=True)
class Claimant:
    """Hold a waiting job that may preempt; `rank` is its plan's position, `score` its place in the queue."""

    id: int
    rank: int
    score: float
    waited: float
    gpu_gb: int
    team: int = 0
    is_short: bool = False


@dataclass(frozen=True, slots=True)
class Running:
    """Hold a running training: its worker (`slot`, of a class), its plan's rank, how it stands. Times in seconds."""

    id: int
    slot: int
    slot_gb: int
    rank: int
    is_preemptible: bool
    ran: float
    left: float
    since_checkpoint: float
    used: float  # its team's GPU seconds of late, by weight
    preempted_today: int
    team: int = 0


@dataclass(frozen=True, slots=True)
class Exchange:
    """Say that the job `victim` saves and makes room on `slot` for the job `winner`."""

    victim: int
    slot: int
    winner: int
    for_short: bool = False


def exchanges(
    rules: Rules,
    claimants: Iterable[Claimant],
    running: Sequence[Running],
    *,
    free_soon: Sequence[tuple[int, float]],
) -> list[Exchange]:
    """Return who makes room for whom now; each slot and each job at most once.

    `free_soon` are slots of no reservation: the class and in how many seconds each will be free. The best claimants
    get those that are free within `rules.preempt_if_free_within` (`short_if_free_within`) and preempt nobody.
    """
    victims = sorted(running, key=_goes_first)
    free = sorted(free_soon)
    found: list[Exchange] = []
    for claimant in sorted(claimants, key=lambda each: (each.score, each.id)):
        soon = rules.short_if_free_within if claimant.is_short else rules.preempt_if_free_within
        fitting = next((each for each in free if each[0] >= claimant.gpu_gb and each[1] <= soon), None)
        if fitting is not None:
            free.remove(fitting)
            continue
        if claimant.waited <= (rules.short_waits if claimant.is_short else rules.preempt_after):
            continue
        lets_pass = _lets_short_pass if claimant.is_short else _makes_room
        for victim in victims:
            if victim.slot_gb >= claimant.gpu_gb and lets_pass(rules, victim, claimant):
                victims.remove(victim)
                found.append(Exchange(victim.id, victim.slot, claimant.id, for_short=claimant.is_short))
                break
    return found


def _makes_room(rules: Rules, job: Running, claimant: Claimant) -> bool:
    return (
        job.rank < claimant.rank
        and job.is_preemptible
        and job.ran >= rules.least_run
        and job.left > rules.least_left
        and job.preempted_today < rules.most_preemptions_a_day
    )


def _lets_short_pass(rules: Rules, job: Running, claimant: Claimant) -> bool:
    is_own = job.team == claimant.team
    may_ask = is_own or (job.is_preemptible and job.rank <= claimant.rank)
    # Each time it loads anew, and its team pays for that: the others ask less often than its own.
    least = rules.least_run_for_short if is_own else rules.least_run
    return may_ask and job.ran >= least and job.left > rules.short_if_free_within


def _goes_first(job: Running) -> tuple[int, float, float, float]:
    """The smallest plan first, then the team furthest over its share, the freshest checkpoint, the latest start."""
    return (job.rank, -job.used, job.since_checkpoint, job.ran)
