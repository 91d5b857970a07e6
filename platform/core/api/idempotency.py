"""`Idempotency-Key`: a POST that is sent twice is done once and answered twice.

    class ProjectViewSet(TeamViewSet):
        @idempotent()
        def create(self, request: Request) -> Response: ...

The key belongs to the team. The action runs in one transaction together with the note of its answer, so that a
crash leaves either both or neither; where it asks another service it does not, and passes the key on instead.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from functools import wraps
from typing import Any

from django.core.files.uploadedfile import UploadedFile
from django.db import IntegrityError, transaction
from django.utils import timezone
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.errors import refused
from core.errors import Conflict, DomainError
from core.models import IdempotencyRecord

KEPT_FOR = timedelta(hours=24)
# An action without an answer for this long has lost its process, and its transaction with it.
ABANDONED_AFTER = timedelta(minutes=5)
_MAX_KEY = 255
_KEPT_HEADERS = ("Location", "Tus-Resumable", "Upload-Offset", "Upload-Expires")

Action = Callable[..., Response]


def idempotent(
    *, required: bool = False, secret: tuple[str, ...] = (), in_transaction: bool = True
) -> Callable[[Action], Action]:
    """Make a POST action of a TeamViewSet safe to repeat with the same `Idempotency-Key`.

    A repeat gets the first answer, with `Idempotency-Replayed: true`. Raises Conflict (409,
    `idempotency_key_in_flight`) while the first is still at work, DomainError (422, `idempotency_key_reused`) for
    another request under the same key and, with `required`, DomainError (400, `idempotency_key_missing`).
    Only answers below 400 are kept: after an error nothing has happened, and the key may be used again. The fields
    named in `secret` are not kept: a repeat gets null for them. An action that asks another service is
    not run `in_transaction`, so that nothing is locked while that service thinks; it passes the key on to it.
    """

    def decorate(action: Action) -> Action:
        @wraps(action)
        def wrapper(view: Any, request: Request, *args: Any, **kwargs: Any) -> Response:
            key = request.headers.get("Idempotency-Key", "")
            if not key:
                if required:
                    raise refused("idempotency_key_missing", "Send an Idempotency-Key header (a UUID).", 400)
                return action(view, request, *args, **kwargs)
            if len(key) > _MAX_KEY or not key.isprintable():
                raise refused("idempotency_key_invalid", "An Idempotency-Key has 1 to 255 characters.", 400)
            record, is_new = _claim(view.actor.team, key, fingerprint(request))
            if not is_new:
                return _replay(record)
            return _perform(record, lambda: action(view, request, *args, **kwargs), secret, in_transaction)

        wrapper.key_required = required  # type: ignore[attr-defined]  # the document says so
        return wrapper

    return decorate


def fingerprint(request: Request) -> str:
    """Return a sha256 over what the request asks for: method, path, the headers of tus, fields and files."""
    digest = hashlib.sha256()
    lines = [request.method or "", request.get_full_path()]
    lines += [request.headers.get(name, "") for name in ("Upload-Length", "Upload-Metadata")]
    digest.update("\n".join(lines).encode())
    data = request.data
    if hasattr(data, "lists"):
        for name, values in sorted(data.lists()):
            for value in values:
                digest.update(f"\n{name}=".encode())
                if isinstance(value, UploadedFile):
                    digest.update(f"{value.name}\n".encode())
                    for chunk in value.chunks():
                        digest.update(chunk)
                    value.seek(0)
                else:
                    digest.update(str(value).encode())
    else:
        digest.update(json.dumps(data, sort_keys=True, separators=(",", ":")).encode())
    return digest.hexdigest()


def _claim(team: Any, key: str, wanted: str) -> tuple[IdempotencyRecord, bool]:
    """Return the record of `key` and whether this request is the first to use it."""
    rows = IdempotencyRecord.objects.for_team(team).filter(key=key)
    now = timezone.now()
    rows.filter(created_at__lt=now - KEPT_FOR).delete()
    rows.filter(status=None, created_at__lt=now - ABANDONED_AFTER).delete()
    try:
        with transaction.atomic():
            return IdempotencyRecord.objects.create(team=team, key=key, fingerprint=wanted), True
    except IntegrityError:
        record = rows.first()
    if record is None or (record.fingerprint == wanted and record.status is None):
        raise Conflict(
            "idempotency_key_in_flight", "The first request with this Idempotency-Key is still at work."
        )
    if record.fingerprint != wanted:
        raise DomainError(
            "idempotency_key_reused", "This Idempotency-Key was used for another request. Send a new one."
        )
    return record, False


def _perform(
    record: IdempotencyRecord, action: Callable[[], Response], secret: tuple[str, ...], in_transaction: bool
) -> Response:
    rows = IdempotencyRecord.objects.for_team(record.team).filter(pk=record.pk)
    try:
        with transaction.atomic() if in_transaction else nullcontext():
            response = action()
            if response.status_code < 400:
                data = json.loads(JSONRenderer().render(getattr(response, "data", None)) or b"null")
                body = {
                    "data": {**data, **dict.fromkeys(secret)} if secret else data,
                    "headers": {name: response[name] for name in _KEPT_HEADERS if name in response},
                }
                rows.update(status=response.status_code, body=body)
    except BaseException:
        rows.delete()
        raise
    if response.status_code >= 400:
        rows.delete()
    return response


def _replay(record: IdempotencyRecord) -> Response:
    assert record.status is not None
    assert record.body is not None
    headers = {**record.body["headers"], "Idempotency-Replayed": "true"}
    return Response(record.body["data"], status=record.status, headers=headers)
