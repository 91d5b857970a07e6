"""The order of the queue, its forecast and preemption, as pure functions."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.queue.board import Board, Waiting
from training.queue.forecast import Slot, forecast
from training.queue.policy import (
    GPU_CLASSES,
    Rules,
    Standing,
    class_of_gpu,
    class_of_need,
    decayed,
    overtaken_for,
    score,
)
from training.queue.preemption import Claimant, Exchange, Running, exchanges
from training.states import WaitsFor

RULES = Rules()
HOUR = 3600.0

standings = st.builds(
    Standing,
    boost=st.sampled_from([0.0, 1800.0, 7200.0, 21600.0]),
    weight=st.sampled_from([1, 2, 4, 8]),
    limit=st.integers(1, 5),
    running=st.integers(0, 4),
    short_running=st.integers(0, 4),
    used=st.floats(0, 200 * HOUR),
)


def test_the_formula_is_the_one_of_the_design() -> None:
    standing = Standing(boost=7200, weight=4, running=2, used=10 * HOUR)
    # 100000 - 7200 + 600 x 10/4 + 900 x 2/4 + 600
    assert score(RULES, standing, queued_at=100_000, gpu_gb=8, slot_gb=24) == 95_350
    assert score(RULES, standing, queued_at=100_000, gpu_gb=24, slot_gb=24) == 94_750
    heavy = replace(standing, used=1000 * HOUR)
    assert score(RULES, heavy, queued_at=100_000) == 100_000 - 7200 + 4 * HOUR + 450


def test_use_counts_half_after_a_week() -> None:
    assert decayed(RULES, 100.0, 7 * 86_400) == pytest.approx(50.0)
    assert decayed(RULES, 100.0, 0.0) == 100.0


@given(mine=standings, theirs=standings, later=st.floats(0, 1e6))
def test_nobody_overtakes_after_the_bound(mine: Standing, theirs: Standing, later: float) -> None:
    """What is queued later than the bound stands behind, whatever its plan and whatever mine used."""
    bound = overtaken_for(RULES, largest_boost=21_600, running=mine.running, weight=mine.weight)
    first = score(RULES, mine, queued_at=0.0, gpu_gb=0, slot_gb=80)
    second = score(RULES, theirs, queued_at=bound + 1 + later, gpu_gb=80, slot_gb=80)
    assert first < second


@given(standing=standings, early=st.floats(0, 1e6), gap=st.floats(0.001, 1e6))
def test_within_a_team_the_older_job_of_a_class_is_first(
    standing: Standing, early: float, gap: float
) -> None:
    assert score(RULES, standing, queued_at=early) < score(RULES, standing, queued_at=early + gap)


@pytest.mark.parametrize(
    ("told", "gb"),
    [
        (0, 0),
        (6144, 6),
        (8188, 8),
        (12_288, 12),
        (15_360, 16),
        (23_028, 24),
        (24_564, 24),
        (46_068, 48),
        (81_559, 80),
    ],
)
def test_cards_are_named_by_what_their_driver_tells(told: int, gb: int) -> None:
    assert class_of_gpu(told) == gb


@given(need=st.integers(1, 170_000))
def test_a_job_fits_the_class_it_is_given(need: int) -> None:
    gb = class_of_need(need)
    assert gb in GPU_CLASSES
    assert need <= gb * 1024 * 0.94
    assert class_of_need(0) == 0


teams = st.integers(1, 4)
jobs = st.lists(
    st.tuples(
        teams, st.integers(0, 20_000), st.sampled_from([0, 8, 24]), st.integers(60, 9000), st.booleans()
    ),
    max_size=30,
)


@given(
    jobs=jobs,
    stand=st.fixed_dictionaries(dict.fromkeys(range(1, 5), standings)),
    gb=st.sampled_from([0, 8, 24]),
)
def test_the_board_gives_the_job_with_the_lowest_score(
    jobs: list[tuple[int, int, int, int, bool]], stand: dict[int, Standing], gb: int
) -> None:
    board = Board(RULES, stand)
    waiting = {
        number: Waiting(number, team, float(queued), float(seconds), need, is_short=short)
        for number, (team, queued, need, seconds, short) in enumerate(jobs)
    }
    for job in waiting.values():
        board.add(job, now=0.0)
    now = dict(stand)
    while True:
        able = [
            (points(now[job.team], job, gb), job.id)
            for job in waiting.values()
            if job.gpu_gb <= gb and not now[job.team].is_full(job.is_short)
        ]
        found = board.best(gb)
        assert (found.id if found else None) == (min(able)[1] if able else None)
        if found is None:
            break
        del waiting[found.id]
        board.start(found, now=0.0)
        mine = now[found.team]
        more = {"short_running" if found.is_short else "running": mine.at_once(found.is_short) + 1}
        now[found.team] = replace(mine, used=mine.used + found.seconds, **more)  # type: ignore[arg-type]
    assert len(board) == len(waiting)


def points(standing: Standing, job: Waiting, gb: int) -> float:
    """Return the score of a job on a slot of `gb`."""
    return score(
        RULES, standing, queued_at=job.queued_at, gpu_gb=job.gpu_gb, slot_gb=gb, is_short=job.is_short
    )


def test_short_work_starts_six_hours_before_a_training_and_counts_for_itself() -> None:
    standing = Standing(boost=7200, weight=4, running=2, short_running=1)
    assert score(RULES, standing, queued_at=100_000, is_short=True) == 100_000 - 7200 - 6 * HOUR + 225
    assert (
        standing.is_full(True),
        replace(standing, limit=2).is_full(False),
        replace(standing, limit=2).is_full(True),
    ) == (False, True, False)


@given(mine=standings, theirs=standings, later=st.floats(0, 1e6))
def test_short_work_overtakes_a_training_for_six_hours_more_at_most(
    mine: Standing, theirs: Standing, later: float
) -> None:
    bound = overtaken_for(
        RULES, largest_boost=21_600, running=mine.running, weight=mine.weight, by_short=True
    )
    first = score(RULES, mine, queued_at=0.0, gpu_gb=0, slot_gb=80)
    assert first < score(RULES, theirs, queued_at=bound + 1 + later, gpu_gb=80, slot_gb=80, is_short=True)


def waits(*jobs: Waiting, slots: list[Slot], stand: dict[int, Standing] | None = None) -> list[object]:
    found = forecast(RULES, stand or {}, jobs, slots, now=1000.0)
    return [(start.id, start.place, start.wait, start.waits_for) for start in found]


def test_the_forecast_plays_the_queue_forward() -> None:
    first, second = Waiting(1, 1, 0.0, 100.0), Waiting(2, 2, 1.0, 50.0)
    assert waits(first, second, slots=[Slot(0, busy_for=40.0, team=3), Slot(0, busy_for=60.0, team=3)]) == [
        (1, 1, 40.0, WaitsFor.TURN),
        (2, 2, 60.0, WaitsFor.TURN),
    ]
    assert waits(first, second, slots=[Slot(0)]) == [
        (1, 1, 0.0, WaitsFor.NOTHING),
        (2, 2, 100.0, WaitsFor.TURN),
    ]


def test_the_forecast_says_why_a_job_waits() -> None:
    job, large = Waiting(1, 1, 0.0, 100.0), Waiting(2, 1, 0.0, 100.0, gpu_gb=24)
    later = Waiting(3, 1, 0.0, 100.0, not_before=1030.0)
    assert waits(job, slots=[]) == [(1, 1, None, WaitsFor.WORKER)]
    assert waits(large, slots=[Slot(8)]) == [(2, 1, None, WaitsFor.GPU)]
    assert waits(later, slots=[Slot(0)]) == [(3, 1, 30.0, WaitsFor.TIME)]
    full = {1: Standing(limit=1, running=1)}
    assert waits(job, slots=[Slot(0), Slot(0, busy_for=20.0, team=1)], stand=full) == [
        (1, 1, 20.0, WaitsFor.LIMIT)
    ]


def test_a_team_at_its_limit_frees_a_slot_that_rests() -> None:
    stand = {1: Standing(limit=1)}
    both = [Waiting(1, 1, 0.0, 100.0), Waiting(2, 1, 1.0, 100.0)]
    assert waits(*both, slots=[Slot(0), Slot(0)], stand=stand) == [
        (1, 1, 0.0, WaitsFor.NOTHING),
        (2, 2, 100.0, WaitsFor.TURN),
    ]


def test_short_work_starts_beside_a_team_s_trainings_that_are_at_their_limit() -> None:
    full = {1: Standing(limit=1, running=1)}
    picture = Waiting(2, 1, 5.0, 20.0, is_short=True)
    assert waits(Waiting(1, 1, 0.0, 100.0), picture, slots=[Slot(0)], stand=full) == [
        (2, 1, 0.0, WaitsFor.NOTHING),
        (1, 2, None, WaitsFor.LIMIT),
    ]


VICTIM = Running(
    id=1, slot=11, slot_gb=24, rank=0, is_preemptible=True, ran=1000, left=5000, since_checkpoint=60, used=0,
    preempted_today=0,
)  # fmt: skip
WINNER = Claimant(id=9, rank=2, score=0.0, waited=200, gpu_gb=24)


def test_a_smaller_plan_makes_room_for_a_larger_one_that_waited() -> None:
    assert exchanges(RULES, [WINNER], [VICTIM], free_soon=[]) == [Exchange(victim=1, slot=11, winner=9)]


@pytest.mark.parametrize(
    "change",
    [
        {"is_preemptible": False},
        {"ran": 899},
        {"left": 600},
        {"preempted_today": 3},
        {"rank": 2},
        {"slot_gb": 16},
    ],
)
def test_some_never_make_room(change: dict[str, int]) -> None:
    assert exchanges(RULES, [WINNER], [replace(VICTIM, **change)], free_soon=[]) == []  # type: ignore[arg-type]


def test_nobody_makes_room_where_a_slot_is_free_soon_or_the_wait_was_short() -> None:
    assert exchanges(RULES, [WINNER], [VICTIM], free_soon=[(24, 180.0)]) == []
    assert exchanges(RULES, [replace(WINNER, waited=120)], [VICTIM], free_soon=[]) == []
    assert len(exchanges(RULES, [WINNER], [VICTIM], free_soon=[(16, 0.0)])) == 1


def test_who_makes_room_first() -> None:
    running = [
        replace(VICTIM, id=1, rank=1),
        replace(VICTIM, id=2, used=10.0, since_checkpoint=500),
        replace(VICTIM, id=3, used=50.0, since_checkpoint=500),
        replace(VICTIM, id=4, used=50.0, since_checkpoint=20),
    ]
    claimants = [replace(WINNER, id=number, score=float(number)) for number in range(90, 95)]
    found = exchanges(RULES, claimants, running, free_soon=[])
    assert [(each.winner, each.victim) for each in found] == [(90, 4), (91, 3), (92, 2), (93, 1)]


PICTURES = Claimant(id=8, rank=0, score=0.0, waited=16, gpu_gb=24, team=5, is_short=True)
PASSING = [Exchange(victim=1, slot=11, winner=8, for_short=True)]


@pytest.mark.parametrize(
    ("change", "passes"),
    [
        ({}, True),
        ({"ran": 899}, False),
        ({"ran": 120, "team": 5}, True),
        ({"ran": 119, "team": 5}, False),
        ({"left": 45}, False),
        ({"rank": 1}, False),
        ({"is_preemptible": False}, False),
        ({"is_preemptible": False, "rank": 1, "team": 5}, True),
        ({"preempted_today": 9}, True),
        ({"slot_gb": 16}, False),
    ],
)
def test_a_training_lets_short_work_pass_of_its_team_or_of_no_smaller_plan(
    change: dict[str, int], passes: bool
) -> None:
    victim = replace(VICTIM, **change)  # type: ignore[arg-type]
    assert exchanges(RULES, [PICTURES], [victim], free_soon=[]) == (PASSING if passes else [])


def test_no_training_lets_short_work_pass_without_need() -> None:
    assert exchanges(RULES, [PICTURES], [VICTIM], free_soon=[(24, 45.0)]) == []
    assert exchanges(RULES, [PICTURES], [VICTIM], free_soon=[(24, 46.0)]) == PASSING
    assert exchanges(RULES, [replace(PICTURES, waited=15)], [VICTIM], free_soon=[]) == []
