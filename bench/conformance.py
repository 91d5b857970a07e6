"""Run the conformance suite of the trainer and say what it checks: `python -m bench.conformance [-n 2]`.

Every family that is registered, every method that fits it, and the faults that are planted so that the suite proves it
can fail. Prints Markdown, the tables of docs/conformance.md; the exit status is pytest's.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest

from training.engine.registry import family_names

ROOT = Path(__file__).resolve().parent.parent
SUITE = (
    "test_conformance.py",
    "test_conformance_runs.py",
    "test_conformance_pictures.py",
    "test_methods.py",
    "test_words.py",
    "test_key_names.py",
    "test_planted_faults.py",
)
FAULTS = "test_planted_fault_is_caught"


class Results:
    """Collect what passed and what failed, by check and by what it was run with."""

    def __init__(self) -> None:
        self.passed: dict[str, list[str]] = defaultdict(list)
        self.failed: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the outcome of one test."""
        if report.failed:
            self.failed.append(report.nodeid)
        elif report.when == "call" and report.passed:
            name, _, about = report.nodeid.partition("::")[2].partition("[")
            self.passed[name].append(about.removesuffix("]"))


def sentence(name: str) -> str:
    """Return the name of a test or of a planted fault as words."""
    return name.removeprefix("test_").replace("_", " ")


def families_in(abouts: list[str], known: list[str]) -> list[str]:
    """Return the families among the parameters of a check, in the order of ``known``."""
    pattern = "|".join(re.escape(name) for name in sorted(known, key=len, reverse=True))
    found = {match[1] for about in abouts if (match := re.match(rf"({pattern})(?:-|$)", about))}
    return [name for name in known if name in found]


def tables(results: Results, known: list[str]) -> list[str]:
    """Return the two tables as lines of Markdown."""
    lines = ["| check | families | tests |", "|---|---|---|"]
    for name, abouts in sorted(results.passed.items()):
        if name == FAULTS:
            continue
        families = families_in(abouts, known)
        where = "all" if families == known else ", ".join(families) or "–"
        lines.append(f"| {sentence(name)} | {where} | {len(abouts)} |")
    lines += ["", "| planted fault, caught |", "|---|"]
    lines += [f"| {sentence(fault)} |" for fault in sorted(results.passed[FAULTS])]
    return lines


def main() -> int:
    """Run the suite and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("-n", type=int, default=os.cpu_count() or 1, help="processes")
    options = parser.parse_args()
    results, known = Results(), sorted(family_names())
    files = [str(ROOT / "tests" / "engine" / name) for name in SUITE]
    begin = time.monotonic()
    with contextlib.redirect_stdout(sys.stderr):
        status = pytest.main(
            [*files, "-q", "-n", str(options.n), "-m", "", "--rootdir", str(ROOT)], plugins=[results]
        )
    minutes = (time.monotonic() - begin) / 60
    count = sum(map(len, results.passed.values()))
    print(f"{len(known)} families: {', '.join(known)}.\n")
    print(
        f"{count} tests passed, {len(results.failed)} failed, {minutes:.1f} minutes, {options.n} processes.\n"
    )
    print("\n".join(tables(results, known)))
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
