"""Guard the shape of the repository: `platform/` as a source root, the agreed tree, small files, honest names."""

from __future__ import annotations

import os
import platform as real_platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"accounts", "projects", "training", "billing"}
FOLDERS = PACKAGES | {
    "platform",
    "templates",
    "tests",
    "frontend",
    "docs",
    "deploy",
    "bench",
    "clients",
    "bin",
    "demo",
}
FOLDERS |= {"requirements", ".ci", ".github"}
LONGEST_FILE = 400
VAGUE = re.compile(r"^(utils?|helpers?|common|misc|managers?|functions|stuff|base_utils)$")
UNFINISHED = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")
SOURCES = {".py", ".ts", ".html"}


def tracked_files() -> list[Path]:
    """List the files of the repository; in an unpacked archive, every file that is not a build result."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if done.returncode == 0 and done.stdout:
        return [
            Path(os.fsdecode(name))
            for name in done.stdout.split(b"\0")
            if name and (ROOT / os.fsdecode(name)).exists()
        ]
    skipped = {".venv", "node_modules", "var", "dist", "__pycache__", ".git"}
    paths = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file())
    return [
        path for path in paths if not skipped.intersection(path.parts) and not path.parts[0].startswith(".m")
    ]


FILES = tracked_files()


def text(path: Path) -> str:
    """Read a file of the repository; one that was moved away since the list was made is empty."""
    try:
        return (ROOT / path).read_text(errors="replace")
    except FileNotFoundError:
        return ""


def test_platform_is_a_plain_folder_without_modules_of_its_own() -> None:
    assert not (ROOT / "platform" / "__init__.py").exists()
    assert list((ROOT / "platform").glob("*.py")) == []


def test_platform_holds_exactly_its_three_packages() -> None:
    folders = {path.parts[1] for path in FILES if path.parts[0] == "platform" and len(path.parts) > 2}
    assert folders == {"config", "core", "notifications"}


def test_no_package_of_ours_carries_a_standard_library_name() -> None:
    ours = {path.name for path in (ROOT / "platform").iterdir() if path.is_dir()} | PACKAGES
    assert ours & set(sys.stdlib_module_names) == set()


@pytest.mark.parametrize("switches", [["-c"], ["-X", "dev", "-W", "ignore", "-c"]])
def test_the_standard_platform_module_wins_when_started_in_the_root(switches: list[str]) -> None:
    code = "import platform, uuid; print(platform.python_implementation(), uuid.uuid4().version)"
    paths = os.pathsep.join([str(ROOT), str(ROOT / "platform")])
    done = subprocess.run(
        [sys.executable, *switches, code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [real_platform.python_implementation(), "4"]


def test_every_top_level_folder_is_one_that_was_agreed_on() -> None:
    assert {path.parts[0] for path in FILES if len(path.parts) > 1} - FOLDERS == set()


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_every_app_is_a_package_at_the_top(package: str) -> None:
    assert (ROOT / package / "__init__.py").exists()


def test_every_test_folder_is_a_package() -> None:
    folders = {path.parent for path in FILES if path.parts[0] == "tests" and path.suffix == ".py"}
    assert [str(folder) for folder in sorted(folders) if not (ROOT / folder / "__init__.py").exists()] == []


def test_no_source_file_outgrows_its_topic() -> None:
    grown = {}
    for path in FILES:
        if path.suffix in SOURCES and "migrations" not in path.parts:
            lines = text(path).count("\n")
            if lines > LONGEST_FILE:
                grown[str(path)] = lines
    assert grown == {}


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert [str(path) for path in FILES if path.suffix in {".py", ".ts"} and VAGUE.match(path.stem)] == []


def test_nothing_is_marked_as_unfinished() -> None:
    marked = [
        f"{path}:{number}"
        for path in FILES
        if path.suffix in SOURCES | {".css", ".toml", ".yml", ".sh"}
        for number, line in enumerate(text(path).splitlines(), 1)
        if UNFINISHED.search(line)
    ]
    assert marked == []


def test_no_lock_file_names_a_package_registry() -> None:
    locks = [*ROOT.glob("requirements/*.txt"), *ROOT.glob("frontend/package-lock.json")]
    named = [
        str(lock)
        for lock in locks
        if re.search(r'https?://[^"\s]+\.(?:whl|tgz|tar\.gz)|index-url', lock.read_text())
    ]
    assert named == []


def test_every_locked_python_package_has_a_hash() -> None:
    for lock in ROOT.glob("requirements/*.txt"):
        entries = re.split(r"\n(?=[A-Za-z0-9])", lock.read_text().strip())
        assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == [], lock.name
