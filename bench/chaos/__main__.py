"""Break everything at random while many trainings run, then check all of them: `python -m bench.chaos`.

python -m bench.chaos [--jobs 200] [--slots 10] [--seed 1] [--undo switch|resume]
python -m bench.chaos --once [--steps 48]      each part killed once, the training's page open in a Chromium

`--undo` takes one of the platform's safeguards away, to show that the checks see it: the command must fail then.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "platform")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--once", action="store_true", help="kill each part once, with an open page")
    parser.add_argument("--steps", type=int, default=48, help="steps of a training (48)")
    parser.add_argument("--jobs", type=int, default=200, help="trainings (200)")
    parser.add_argument("--slots", type=int, default=10, help="training workers (10)")
    parser.add_argument("--pause", type=float, default=8.0, help="mean seconds between two faults (8)")
    parser.add_argument("--seed", type=int, default=1, help="of the dice (1)")
    parser.add_argument("--undo", choices=["switch", "resume"], default="", help="a safeguard to take away")
    parser.add_argument(
        "--short", action="store_true", help="a handful of faults, one of a kind: for the tests"
    )
    options = parser.parse_args()
    if options.once:
        from bench.chaos.once import main as once

        return once(options.steps)
    from bench.chaos.many import Plan
    from bench.chaos.many import main as many

    return many(
        Plan(
            jobs=options.jobs,
            slots=options.slots,
            steps=options.steps,
            pause=options.pause,
            seed=options.seed,
            undo=options.undo,
            short=options.short,
        )
    )


if __name__ == "__main__":
    sys.exit(main())
