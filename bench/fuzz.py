"""Fire many generated requests at the whole API and hold every answer against its document: `python -m bench.fuzz`.

The same as tests/api/test_fuzz.py with more requests: each operation x each kind of credential x valid and broken
ones. Prints the number of cases and of each status; what was wrong is printed with a request that shows it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Run the fuzzer on servers of its own; return 0 if nothing was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--examples", type=int, default=20, help="of each kind, for each operation and credential"
    )
    parser.add_argument("--seed", type=int, default=2)
    options = parser.parse_args()
    began = time.monotonic()
    code = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-s", "--no-header", "--tb=no", "tests/api/test_fuzz.py"],
        cwd=ROOT,
        env={**os.environ, "LF_FUZZ_EXAMPLES": str(options.examples), "LF_FUZZ_SEED": str(options.seed)},
        check=False,
    ).returncode
    print(f"{time.monotonic() - began:.0f} s")
    return code


if __name__ == "__main__":
    sys.exit(main())
