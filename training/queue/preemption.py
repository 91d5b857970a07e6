"""Who has to make room, and for whom. Pure.

A job of a plan that may preempt, which has waited long enough and finds no slot that is free soon, takes the place of
a running job of a smaller plan. That one saves, goes back to its old place in the queue and loses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from training.queue.policy import Rules


@dataclass(frozen=True, slots=True)
class Claimant:
    """Hold a waiting job whose plan may preempt; `rank` is the plan's position, `score` its place in the queue."""

    id: int
    rank: int
    score: float
    waited: float
    gpu_gb: int


@dataclass(frozen=True, slots=True)
class Running:
    """Hold a running job: its worker (`slot`, of a class), its plan's rank and how it stands. Times in seconds."""

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


@dataclass(frozen=True, slots=True)
class Exchange:
    """Say that the job `victim` saves and makes room on `slot` for the job `winner`."""

    victim: int
    slot: int
    winner: int


def exchanges(
    rules: Rules,
    claimants: Iterable[Claimant],
    running: Sequence[Running],
    *,
    free_soon: Sequence[int],
) -> list[Exchange]:
    """Return who makes room for whom now; each slot and each job at most once.

    `free_soon` are the classes of slots that are free or will be within `rules.preempt_if_free_within`, and of no
    reservation: the best claimants get those and preempt nobody.
    """
    victims = sorted((job for job in running if _may_go(rules, job)), key=_goes_first)
    free = sorted(free_soon)
    found: list[Exchange] = []
    for claimant in sorted(claimants, key=lambda each: (each.score, each.id)):
        fitting = next((gb for gb in free if gb >= claimant.gpu_gb), None)
        if fitting is not None:
            free.remove(fitting)
            continue
        if claimant.waited <= rules.preempt_after:
            continue
        for victim in victims:
            if victim.rank < claimant.rank and victim.slot_gb >= claimant.gpu_gb:
                victims.remove(victim)
                found.append(Exchange(victim.id, victim.slot, claimant.id))
                break
    return found


def _may_go(rules: Rules, job: Running) -> bool:
    return (
        job.is_preemptible
        and job.ran >= rules.least_run
        and job.left > rules.least_left
        and job.preempted_today < rules.most_preemptions_a_day
    )


def _goes_first(job: Running) -> tuple[int, float, float, float]:
    """The smallest plan first, then the team furthest over its share, the freshest checkpoint, the latest start."""
    return (job.rank, -job.used, job.since_checkpoint, job.ran)
