"""Export everything a team owns as one zip, and read such a zip again to see that it is whole.

`data/<app>.<model>.jsonl` holds one row a line, `files/<sha256>` the stored bytes, `manifest.json` how many rows of
each table there are and what was left out. Secrets (keys, passwords) are no part of it.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

from django.apps import apps
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.actor import Actor, require
from accounts.models import ExportState, Membership, Team, TeamExport
from accounts.roles import Can
from accounts.services.audit import audit
from core import storage
from core.downloads import download_link
from core.errors import Conflict, NotFound
from core.outbox import enqueue
from core.tenancy.models import TenantModel

KEPT_FOR = timedelta(days=7)
FORMAT = 1
# Never exported: what proves an identity, and plumbing that means nothing elsewhere.
SECRET_WORDS = ("secret", "password", "hmac", "token")
PLUMBING = {"core.idempotencyrecord", "accounts.teamexport"}


def request_export(*, actor: Actor) -> TeamExport:
    """Have an export made; raise Conflict while one is being made."""
    require(actor, Can.EXPORT)
    with transaction.atomic():
        Team.objects.select_for_update(no_key=True).get(pk=actor.team.pk)
        rows = TeamExport.objects.for_team(actor.team)
        if rows.filter(state=ExportState.PENDING, expires_at__gt=timezone.now()).exists():
            raise Conflict("export_running", _("An export is being made. Wait until it is ready."))
        export: TeamExport = TeamExport.objects.create(
            team=actor.team, created_by=actor.user, expires_at=timezone.now() + KEPT_FOR
        )
        audit(actor, "export.requested", export)
        from accounts.tasks import make_export

        enqueue(make_export, export.uid)
    return export


def export_link(*, actor: Actor, uid: str) -> str:
    """Return a short-lived address of a finished export; raise NotFound."""
    require(actor, Can.EXPORT)
    export = TeamExport.objects.for_team(actor.team).filter(uid=uid, state=ExportState.READY).first()
    if export is None:
        raise NotFound
    audit(actor, "export.downloaded", export)
    return download_link(
        export_key(export),
        filename=f"{actor.team.slug}-{export.created_at:%Y-%m-%d}.zip",
        content_type="application/zip",
        size=export.size,
    )


def export_key(export: TeamExport) -> str:
    """Return where an export lies."""
    return storage.export_key(export.team.uid, export.uid)


def build_export(export: TeamExport) -> None:
    """Make the zip, read it again, store it, and mark the export as ready."""
    with tempfile.TemporaryDirectory(prefix="lora-foundry-export-") as folder:
        path = Path(folder) / "export.zip"
        write_export(export.team, path)
        counts = verify_export(path)
        storage.save_file(export_key(export), path)
        TeamExport.objects.for_team(export.team).filter(pk=export.pk).update(
            state=ExportState.READY, size=path.stat().st_size, counts=counts
        )


def write_export(team: Team, path: Path) -> None:
    """Write everything `team` owns into the zip at `path`."""
    counts: dict[str, int] = {}
    files: dict[str, int] = {}
    missing: list[str] = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, allowZip64=True) as archive:
        for label, rows in _tables(team):
            counts[label] = 0
            with archive.open(f"data/{label}.jsonl", "w", force_zip64=True) as target:
                for row in rows:
                    counts[label] += 1
                    target.write(json.dumps(row, cls=DjangoJSONEncoder, ensure_ascii=False).encode() + b"\n")
                    if label == "projects.blob":
                        files[row["sha256"]] = row["size"]
        for sha256 in files:
            if not _add_file(archive, team, sha256):
                missing.append(sha256)
        manifest = {
            "format": FORMAT,
            "team": {"id": team.uid, "slug": team.slug, "name": team.name},
            "made_at": timezone.now(),
            "rows": counts,
            "files": len(files) - len(missing),
            "missing_files": missing,
            "left_out": [*SECRET_WORDS, *sorted(PLUMBING)],
        }
        archive.writestr("manifest.json", json.dumps(manifest, cls=DjangoJSONEncoder, indent=1))


def verify_export(path: Path) -> dict[str, int]:
    """Read a zip again and return the rows of each table; raise ValueError if it is not what its manifest says."""
    with zipfile.ZipFile(path) as archive:
        manifest = json.loads(archive.read("manifest.json"))
        counts = {}
        for label, expected in manifest["rows"].items():
            with archive.open(f"data/{label}.jsonl") as lines:
                counts[label] = sum(1 for line in lines if json.loads(line))
            if counts[label] != expected:
                raise ValueError(f"{label}: {counts[label]} rows, {expected} expected")
        names = [name for name in archive.namelist() if name.startswith("files/")]
        for name in names:
            with archive.open(name) as source:
                if _sha256(source) != Path(name).name:
                    raise ValueError(f"{name} is damaged")
        if len(names) != manifest["files"]:
            raise ValueError(f"{len(names)} files, {manifest['files']} expected")
    return counts


def tenant_models() -> list[type[TenantModel]]:
    """Return every table that belongs to teams, of all apps, by label."""
    found = [model for model in apps.get_models() if issubclass(model, TenantModel)]
    return sorted(found, key=lambda model: model._meta.label_lower)


def _tables(team: Team) -> Iterator[tuple[str, Iterable[Any]]]:
    members = Membership.objects.filter(team=team).order_by("pk")
    yield "accounts.membership", members.values("user__email", "user__name", "role", "created_at")
    for model in tenant_models():
        if model._meta.label_lower in PLUMBING:
            continue
        fields = [field.attname for field in model._meta.concrete_fields if not _is_secret(field)]
        rows = model.objects.for_team(team).order_by("pk").values(*fields)
        yield model._meta.label_lower, rows.iterator(chunk_size=1000)


def _is_secret(field: models.Field[Any, Any]) -> bool:
    return any(word in field.attname for word in SECRET_WORDS)


def _add_file(archive: zipfile.ZipFile, team: Team, sha256: str) -> bool:
    try:
        source = storage.open_key(storage.blob_key(team.uid, sha256))
    except FileNotFoundError:
        return False
    # Pictures and weights do not get smaller by packing.
    entry = zipfile.ZipInfo(f"files/{sha256}", date_time=(1980, 1, 1, 0, 0, 0))
    with source, archive.open(entry, "w", force_zip64=True) as target:
        while chunk := source.read(1024 * 1024):
            target.write(chunk)
    return True


def _sha256(source: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while chunk := source.read(1024 * 1024):
        digest.update(chunk)
    return digest.hexdigest()
