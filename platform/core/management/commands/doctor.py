"""`manage.py doctor`: look at everything this installation needs and say what to do about what is missing."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.checks import WARNING, run_checks
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.management.base import BaseCommand, CommandError

from core.health import Finding, readiness

SMALLEST_DISK = 2 * 1024**3
MARKS = {"ok": "ok     ", "warning": "warning", "failed": "failed "}


class Command(BaseCommand):
    help = "Check everything and say what to do."
    requires_system_checks: list[str] = []  # it runs them itself, after the parts they need

    def handle(self, **options: Any) -> None:
        findings = [*readiness()]
        for check in local_checks():
            findings.append(guarded(check))
        for finding in findings:
            self._show(finding)
        failed = [finding.name for finding in findings if finding.state == "failed"]
        if failed:
            raise CommandError(f"{len(failed)} of {len(findings)} checks failed: {', '.join(failed)}")
        self.stdout.write(f"All {len(findings)} checks passed or only warned.")

    def _show(self, finding: Finding) -> None:
        style = {"ok": self.style.SUCCESS, "warning": self.style.WARNING, "failed": self.style.ERROR}[
            finding.state
        ]
        self.stdout.write(f"{style(MARKS[finding.state])}  {finding.name:<18} {finding.detail}")
        if finding.remedy and finding.state != "ok":
            self.stdout.write(f"{'':<28}{finding.remedy}")


def guarded(check: Callable[[], Finding]) -> Finding:
    """Run a check; a check that breaks is a failed check, not the end of the examination."""
    try:
        return check()
    except Exception as error:
        return Finding(getattr(check, "__name__", "check").removeprefix("check_"), "failed", str(error))


def local_checks() -> list[Callable[[], Finding]]:
    """Return the checks of this machine and its settings."""
    return [
        check_python,
        check_disk,
        check_storage,
        check_front_end,
        check_translations,
        check_trainer,
        check_base_model,
        check_mail,
        check_settings,
    ]


def check_python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.prefix == sys.base_prefix and not os.environ.get("LF_PRODUCTION"):
        return Finding(
            "python", "warning", f"{version}, outside the project's environment", "Use .venv/bin/python."
        )
    return Finding("python", "ok", version)


def check_disk() -> Finding:
    folder: Path = settings.VAR_DIR
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    detail = f"{free / 1024**3:.1f} GiB free at {folder}"
    if not os.access(folder, os.W_OK):
        return Finding(
            "disk", "failed", f"{folder} cannot be written", "Give it to this user or set LF_VAR_DIR."
        )
    if free < SMALLEST_DISK:
        return Finding("disk", "warning", detail, "Checkpoints and pictures need more: free some space.")
    return Finding("disk", "ok", detail)


def check_storage() -> Finding:
    """Write, read and delete a small blob."""
    key, content = f"doctor/{uuid.uuid4().hex}", b"written by manage.py doctor"
    try:
        default_storage.save(key, ContentFile(content))
        with default_storage.open(key) as stored:
            same = stored.read() == content
        default_storage.delete(key)
    except Exception as error:
        return Finding("storage", "failed", str(error), "Check LF_S3_BUCKET, LF_S3_ENDPOINT and the keys.")
    where = settings.S3_BUCKET or str(settings.VAR_DIR / "blobs")
    return Finding("storage", "ok" if same else "failed", f"written, read and deleted in {where}")


def check_front_end() -> Finding:
    manifest = Path(str(settings.DJANGO_VITE["default"]["manifest_path"]))
    if manifest.exists():
        return Finding("front end", "ok", "built")
    return Finding("front end", "failed", "not built", "Run bin/setup.")


def check_translations() -> Finding:
    sources = [po for folder in settings.LOCALE_PATHS for po in Path(folder).glob("*/LC_MESSAGES/*.po")]
    stale = [po for po in sources if not po.with_suffix(".mo").exists()]
    if stale:
        return Finding("translations", "warning", f"{len(stale)} not compiled", "Run bin/setup.")
    return Finding("translations", "ok", f"{len(sources)} compiled")


def check_trainer() -> Finding:
    missing = [
        name for name in ("torch", "diffusers", "transformers", "peft") if not importlib.util.find_spec(name)
    ]
    if missing:
        remedy = "Run bin/setup on machines that train; a web-only machine needs none of it."
        return Finding("trainer", "warning", f"{', '.join(missing)} not installed", remedy)
    return Finding("trainer", "ok", "installed")


def check_base_model() -> Finding:
    folder = Path(settings.BASE_MODELS_DIR)
    found = sorted({path.parent for path in folder.glob("**/model_index.json")})
    if not found:
        return Finding(
            "base models", "warning", f"none in {folder}", "Set LF_BASE_MODELS_DIR to a folder of models."
        )
    return Finding("base models", "ok", f"{len(found)} in {folder}")


def check_mail() -> Finding:
    if settings.EMAIL_BACKEND.endswith("FolderBackend"):
        return Finding(
            "mail",
            "warning" if settings.PRODUCTION else "ok",
            f"kept in {settings.MAIL_DIR}",
            "Set EMAIL_URL to send for real.",
        )
    return Finding("mail", "ok", f"sent through {settings.EMAIL_HOST}:{settings.EMAIL_PORT}")


def check_settings() -> Finding:
    """Run Django's own checks, those for a deployment included when this is one."""
    messages = [m for m in run_checks(include_deployment_checks=settings.PRODUCTION) if m.level >= WARNING]
    if not messages:
        return Finding("settings", "ok", "no complaint")
    worst = max(message.level for message in messages)
    detail = "; ".join(f"{message.id}: {message.msg}" for message in messages[:5])
    return Finding("settings", "failed" if worst > WARNING else "warning", detail, "Run `manage.py check`.")
