"""Fire generated requests at the whole API, in this process, and hold every answer against its document.

Schemathesis makes the requests from docs/openapi.yaml (valid ones and broken ones); ids of things that are there are
put into most of them, so that they get past the first 404. Each request is undone before the next.
"""

from __future__ import annotations

import random
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import schemathesis
from django.contrib.auth import login
from django.contrib.sessions.backends.db import SessionStore
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, transaction
from django.middleware.csrf import get_token
from django.test import RequestFactory
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from accounts.actor import Actor
from accounts.models import User
from accounts.services.tokens import issue_tokens
from tests.api import contract
from tests.core.test_matrix import UID_OF
from tests.world import World

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)


@schemathesis.serializer("application/offset+octet-stream")  # type: ignore[untyped-decorator]
def _octets(context: Any, value: Any) -> Any:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


@contextmanager
def one_connection() -> Iterator[None]:
    """Keep the connection that holds the transaction, as Django's own test client does."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    try:
        yield
    finally:
        for signal in (request_started, request_finished):
            signal.connect(close_old_connections)


@dataclass
class Credential:
    """Be one kind of caller: what its requests carry."""

    headers: dict[str, str] = field(default_factory=dict)
    cookies: dict[str, str] = field(default_factory=dict)


def credentials(world: World, theirs: World) -> dict[str, Credential]:
    """Return every kind of credential: none, keys that read and write, a token, a session, another team's key."""
    return {
        "none": Credential(),
        "read key": _bearer(world.read_key_text),
        "write key": _bearer(world.key_text),
        "token": _bearer(issue_tokens(actor=world.actor).access),
        "session": _session(world.actor),
        "other team": _bearer(theirs.key_text),
    }


def _bearer(text: str) -> Credential:
    return Credential(headers={"Authorization": f"Bearer {text}"})


def _session(actor: Actor) -> Credential:
    request = RequestFactory().get("/")
    request.session = SessionStore()
    user = User.objects.get(pk=actor.user.pk)
    user.backend = "allauth.account.auth_backends.AuthenticationBackend"  # type: ignore[attr-defined]
    login(request, user)
    request.session.save()
    token = get_token(request)
    return Credential(
        headers={"X-Team": actor.team.slug, "X-CSRFToken": token, "Referer": "http://localhost/"},
        cookies={
            "sessionid": str(request.session.session_key),
            "csrftoken": request.META["CSRF_COOKIE"],
        },
    )


def _with_address(app: Any) -> Any:
    """Give each request the address that a server would."""

    def served(environ: dict[str, Any], start_response: Any) -> Any:
        return app({**environ, "REMOTE_ADDR": "127.0.0.1"}, start_response)

    return served


@dataclass
class Report:
    """Count the cases and their answers, and keep what was wrong."""

    cases: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    operations: set[str] = field(default_factory=set)
    failures: dict[str, str] = field(default_factory=dict)


class Fuzzer:
    """Send generated requests with each credential; ids come from `world`."""

    def __init__(self, app: Any, world: World, seed: int = 1) -> None:
        with one_connection():
            self.schema = schemathesis.openapi.from_wsgi("/api/v1/openapi.yaml", _with_address(app))
        self.world = world
        self.random = random.Random(seed)
        self.report = Report()

    def operations(self) -> Iterator[Any]:
        for found in self.schema.get_all_operations():
            yield found.ok()

    def run(self, credentials: Mapping[str, Credential], *, examples: int) -> Report:
        """Send `examples` valid and as many broken requests to each operation with each credential."""
        with one_connection():
            for operation in self.operations():
                for name, credential in credentials.items():
                    for mode in MODES:
                        self._fire(operation, name, credential, mode, examples)
        return self.report

    def _fire(self, operation: Any, name: str, credential: Credential, mode: Any, examples: int) -> None:
        try:
            strategy = operation.as_strategy(generation_mode=mode)
        except Exception as error:
            self.report.failures[f"{operation.label}: no requests"] = repr(error)
            return

        @seeded(self.random.randrange(2**32))
        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=strategy)
        def one(case: Any) -> None:
            self._send(case, name, credential)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                one()
            except (Exception, BaseExceptionGroup) as error:
                if "Unsatisfiable" not in type(error).__name__:
                    self.report.failures[f"{operation.label}: {name}"] = repr(error)[:600]

    def _send(self, case: Any, name: str, credential: Credential) -> None:
        self._place_ids(case)
        contract.mismatches.clear()
        with transaction.atomic():
            try:
                response = case.call(headers=dict(credential.headers), cookies=dict(credential.cookies))
                case.validate_response(response, checks=CHECKS)
                self.report.statuses[response.status_code] += 1
            except (Exception, BaseExceptionGroup) as error:
                self._note(case, name, error)
            finally:
                transaction.set_rollback(True)
        self.report.cases += 1
        self.report.operations.add(case.operation.label)
        for mismatch in contract.mismatches:
            self.report.failures.setdefault(f"{case.operation.label}: contract", f"{name}: {mismatch}"[:600])
        contract.mismatches.clear()

    def _note(self, case: Any, name: str, error: BaseException) -> None:
        kinds = [type(each).__name__ for each in getattr(error, "exceptions", [])] or [type(error).__name__]
        text = (
            f"{name}: {error!s:.1500}\n{case.as_curl_command() if hasattr(case, 'as_curl_command') else ''}"
        )
        for kind in kinds:
            self.report.failures.setdefault(f"{case.operation.label}: {kind}", text)

    def _place_ids(self, case: Any) -> None:
        """Put ids of things that are there into four of five requests."""
        if self.random.random() < 0.2:
            return
        if case.path_parameters and "uid" in case.path_parameters:
            segment = case.operation.path.split("/{uid}")[0].rpartition("/")[2]
            if segment in UID_OF:
                case.path_parameters["uid"] = UID_OF[segment](self.world)
        ids = {
            "project": self.world.project.uid,
            "dataset": self.world.dataset.uid,
            "dataset_version": self.world.version.uid,
            "base_model": self.world.foundation.key,
            "team": self.world.actor.team.slug,
        }
        for part in (case.body, case.query):
            if isinstance(part, dict):
                for key, value in ids.items():
                    if isinstance(part.get(key), str):
                        part[key] = value
                if isinstance(part.get("items"), list):
                    part["items"] = [self.world.item.uid, *part["items"]]
