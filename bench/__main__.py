"""Run the measurements of `make bench`, one after another, each in a process of its own.

python -m bench [engine] [styles] [pages]

Apart, because they need a browser and several minutes: python -m bench.chaos --once, python -m bench.tour; and
python -m bench.chaos (`make chaos`), which needs half an hour.
"""

from __future__ import annotations

import subprocess
import sys

PARTS = {
    "engine": "the engine's loop against a bare loop of the same model",
    "styles": "a demo training on each style set: seconds, and what was learned",
    "pages": "pages and API on a picture set of 1 000 pictures",
}


def main() -> int:
    """Run the named parts, or all; return the number of those that failed."""
    wanted = sys.argv[1:] or list(PARTS)
    failed = 0
    for name in wanted:
        if name not in PARTS:
            print(f"There is no part {name!r}. Known: {', '.join(PARTS)}.")
            return 64
        print(f"\n== {name}: {PARTS[name]}", flush=True)
        failed += subprocess.run([sys.executable, "-m", f"bench.{name}"], check=False).returncode != 0
    return failed


if __name__ == "__main__":
    sys.exit(main())
