"""What must hold at the end. Pure: every check takes the facts and returns what it found wrong, in words."""

from __future__ import annotations

from collections.abc import Callable

from bench.chaos.facts import WITH_FILE, AttemptFacts, Facts, JobFacts
from bench.chaos.oracle import Step

# How each attempt may end, and whether its seconds are paid for.
PAID = {"succeeded", "stopped", "paused", "canceled", "drained"}
UNPAID = {"crashed", "failed"}
# From the end of an engine's lease to its last step, and from a checkpoint to its row: seconds.
MARGIN = 3.0
MANY = 20


def ends(facts: Facts) -> list[str]:
    """Every job ended as its people wanted."""
    return [f"{job.name} ended {job.state}" for job in facts.jobs if job.state not in job.may_end]


def stale_steps(facts: Facts) -> list[str]:
    """No step began after a later attempt of its job had begun."""
    found = []
    for job in facts.jobs:
        for step in facts.steps.get(job.uid, []):
            later = [attempt.started for attempt in job.attempts if attempt.fence > step.fence]
            if later and step.began > min(later):
                late = step.began - min(later)
                found.append(f"{job.name} #{step.fence} began step {step.number} {late:.2f} s too late")
    return found


def finished_late(facts: Facts) -> list[Step]:
    """Return the steps that were under way when their process was frozen, and ended after it woke up (no fault)."""
    found = []
    for job in facts.jobs:
        for step in facts.steps.get(job.uid, []):
            later = [attempt.started for attempt in job.attempts if attempt.fence > step.fence]
            if later and step.began <= min(later) < step.ended:
                found.append(step)
    return found


def every_step(facts: Facts) -> list[str]:
    """Every step was made, in order within each attempt, and is in the curve once."""
    found = []
    for job in facts.jobs:
        if job.state not in WITH_FILE:
            continue
        steps = facts.steps.get(job.uid, [])
        wanted = range(1, job.step + 1)
        if missing := set(wanted) - {step.number for step in steps}:
            found.append(f"{job.name} lacks steps {sorted(missing)[:5]}")
        if job.state == "succeeded" and job.step != job.total_steps:
            found.append(f"{job.name} succeeded at step {job.step} of {job.total_steps}")
        for attempt in job.attempts:
            made = [step.number for step in steps if step.fence == attempt.fence]
            if made != list(range(attempt.first_step + 1, attempt.first_step + 1 + len(made))):
                found.append(f"{job.name} #{attempt.fence} did not make its steps in order")
        if [step for step in job.curve if step <= job.step] != list(wanted):
            found.append(f"{job.name}: the curve has not every step once")
        if job.seqs != list(range(1, job.last_seq + 1)):
            found.append(f"{job.name}: its events are not numbered without a gap")
    return found


def redone(job: JobFacts, steps: list[Step]) -> list[tuple[AttemptFacts, int]]:
    """Return each attempt after which steps were made again, and how many."""
    found = []
    made = {attempt.fence: [s.number for s in steps if s.fence == attempt.fence] for attempt in job.attempts}
    for attempt in job.attempts:
        later = [each for each in job.attempts if each.fence > attempt.fence and made[each.fence]]
        if later and made[attempt.fence]:
            again = made[attempt.fence][-1] - later[0].first_step
            if again > 0:
                found.append((attempt, again))
    return found


def redo_bound(facts: Facts) -> list[str]:
    """No attempt lost more than a cadence and what it did unheard; many together not more than a cadence each."""
    found, total, attempts = [], 0, 0
    for job in facts.jobs:
        steps = facts.steps.get(job.uid, [])
        for attempt, again in redone(job, steps):
            mine = [step for step in steps if step.fence == attempt.fence]
            unheard = _unheard(facts, mine)
            if again > facts.cadence + unheard:
                found.append(f"{job.name} #{attempt.fence} lost {again} steps, {unheard} of them unheard")
            total += again
        attempts += sum(attempt.outcome in UNPAID | {"preempted"} for attempt in job.attempts)
    # A single frozen worker may lose more: its engine goes on unheard until its own lease ends.
    if attempts >= MANY and total > facts.cadence * attempts:
        found.append(f"{total} steps made again after {attempts} broken attempts")
    return found


def _unheard(facts: Facts, mine: list[Step]) -> int:
    """Count the last steps of an attempt that nobody need have heard of: of its lease's end, and of full disks."""
    last = mine[-1].ended
    silent = facts.engine_lease + MARGIN
    begin = last - silent
    for start, end in facts.full:
        if start - MARGIN < last and begin < end:
            begin = min(begin, start - MARGIN)
    return sum(step.ended > begin for step in mine)


def nothing_held(facts: Facts) -> list[str]:
    """No lease, reserve, reserved slot, open attempt, unsent letter or run folder is left; the site answers."""
    counted = {
        "seconds held": facts.held,
        "leases": facts.leases,
        "open attempts": facts.open_attempts,
        "reserved slots": facts.reservations,
        "unsent letters": facts.waiting_letters,
        "run folders": len(facts.folders),
        "site that does not answer": int(not facts.web_answers),
    }
    return [f"{count} {name}" for name, count in counted.items() if count]


def bills(facts: Facts) -> list[str]:
    """Each attempt is billed once, with its own seconds; the useful ones alone are charged."""
    found, charged = [], 0
    for job in facts.jobs:
        if job.bills != len(job.attempts):
            found.append(f"{job.name}: {job.bills} bills for {len(job.attempts)} attempts")
        for attempt in job.attempts:
            name = f"{job.name} #{attempt.fence} ({attempt.outcome})"
            if attempt.billed is None or abs(attempt.billed - attempt.seconds) > 0.01:
                found.append(f"{name} took {attempt.seconds:.2f} s, billed {attempt.billed}")
            if (attempt.useful and attempt.outcome in UNPAID) or (
                not attempt.useful and attempt.outcome in PAID
            ):
                found.append(f"{name} counts as {'useful' if attempt.useful else 'useless'}")
            charged += round(attempt.billed or 0) if attempt.useful else 0
    if charged != facts.used:
        found.append(f"{facts.used} s charged, {charged} s of useful attempts")
    return found


def versions(facts: Facts) -> list[str]:
    """Each job that ended with a file has one version, the others none."""
    return [
        f"{job.name} ({job.state}) has {job.versions} versions"
        for job in facts.jobs
        if job.versions != int(job.state in WITH_FILE)
    ]


def weights(facts: Facts) -> list[str]:
    """Each succeeded job's weights are those of an undisturbed run, bit for bit."""
    done = [job for job in facts.jobs if job.state == "succeeded"]
    return [f"{job.name} ({job.model})" for job in done if job.weights != facts.quiet.get(job.model)]


def outlived(facts: Facts) -> list[str]:
    """The jobs last longer than the lease: shorter ones would hide a worker that wakes up too late."""
    good = [
        attempt.seconds
        for job in facts.jobs
        for attempt in job.attempts
        if attempt.outcome == "succeeded" and attempt.first_step == 0
    ]
    short = [seconds for seconds in good if seconds <= facts.lease]
    return (
        [f"{len(short)} whole runs of {len(good)} were shorter than the lease"] if short or not good else []
    )


CHECKS: dict[str, Callable[[Facts], list[str]]] = {
    "every job ended as it should": ends,
    "no step was made beside a later attempt": stale_steps,
    "every step was made, told once, in order": every_step,
    "steps made again are within the cadence": redo_bound,
    "no lease, reserve, attempt or folder is left": nothing_held,
    "billed seconds are those of the useful attempts": bills,
    "one version for each file, none doubled": versions,
    "weights are bit-equal to undisturbed runs": weights,
    "undisturbed runs outlast the lease": outlived,
}
