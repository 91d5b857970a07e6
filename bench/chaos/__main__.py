"""Break everything at random while many trainings run, then check all of them: `python -m bench.chaos`.

python -m bench.chaos [--jobs 200] [--slots 10] [--steps 48] [--pause 8] [--seed 1] [--undo switch|resume]
python -m bench.chaos --short        a handful of jobs, one fault of a kind, shorter leases: what the tests run
python -m bench.chaos --once         each part killed once, the training's page open in a Chromium

`--undo` takes one of the platform's safeguards away, to see what the checks say. Without `resume` the weights differ.
Without `switch` a step beside a later attempt is possible, not certain: a passing run proves nothing about that check.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "platform")]

USUAL = {"jobs": 200, "slots": 10, "steps": 48, "pause": 8.0}
SHORT = {"jobs": 4, "slots": 2, "steps": 28, "pause": 3.0}
ONCE_STEPS = 60
# A frozen worker's engine must still be at it when its job was taken back and has begun elsewhere.
LONG_STEPS = 110


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--once", action="store_true", help="kill each part once, with an open page")
    kind.add_argument("--short", action="store_true", help="a handful of jobs and faults")
    parser.add_argument("--jobs", type=int, help="trainings")
    parser.add_argument("--slots", type=int, help="training workers")
    parser.add_argument("--steps", type=int, help="steps of a training")
    parser.add_argument("--pause", type=float, help="mean seconds between two faults")
    parser.add_argument("--seed", type=int, default=1, help="of the dice")
    parser.add_argument("--undo", choices=["switch", "resume"], default="", help="a safeguard to take away")
    options = parser.parse_args()
    if options.once:
        from bench.chaos.once import main as once

        return once(options.steps or ONCE_STEPS)
    from bench.chaos.many import Plan
    from bench.chaos.many import main as many

    usual = dict(SHORT if options.short else USUAL)
    if options.undo == "switch":
        usual["steps"] = LONG_STEPS
    size = {name: getattr(options, name) or value for name, value in usual.items()}
    return many(Plan(**size, seed=options.seed, undo=options.undo, short=options.short))


if __name__ == "__main__":
    sys.exit(main())
