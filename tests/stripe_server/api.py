"""Answer one call of the API: key, faults, idempotency, then what it asks for."""

from __future__ import annotations

import json
import traceback
from dataclasses import dataclass, field

from tests.stripe_server import endpoints  # noqa: F401  registers the routes
from tests.stripe_server.account import Account, Request
from tests.stripe_server.cycles import run_until
from tests.stripe_server.errors import StripeError, invalid
from tests.stripe_server.expand import expanded
from tests.stripe_server.faults import AFTER, refusal
from tests.stripe_server.forms import Obj
from tests.stripe_server.routing import Answer, Call, Page, Redirect, answer
from tests.stripe_server.store import new_id


@dataclass
class Asked:
    """Hold one request as it came."""

    method: str
    path: str
    params: Obj
    key: str = ""  # of the account: sk_test_…
    idempotency_key: str | None = None
    id: str = field(default_factory=lambda: new_id("req"))


@dataclass
class Response:
    """Hold an answer; one with a `fault` other than a status never reaches the caller."""

    status: int
    body: bytes
    headers: dict[str, str]
    fault: str | None = None


def respond(account: Account, asked: Asked) -> Response:
    """Answer a call and note it in the log. Takes the account's lock for as long as it works."""
    with account.lock:
        account.request = Request(asked.id, asked.idempotency_key)
        run_until(account, account.now)
        try:
            response = _respond(account, asked)
        except StripeError as error:
            response = _written(error.status, error.body)
        finally:
            account.request = Request()
        response.headers["Request-Id"] = asked.id
        account.calls.append(
            {
                "method": asked.method,
                "path": asked.path,
                "params": asked.params,
                "idempotency_key": asked.idempotency_key,
                "status": response.status,
                "replayed": "Idempotent-Replayed" in response.headers,
                "fault": response.fault,
            }
        )
        return response


def _respond(account: Account, asked: Asked) -> Response:
    _check_key(asked.key)
    fault = account.faults.draw()
    if fault == "drop_before":
        return Response(0, b"", {}, fault)
    if fault is not None and fault not in AFTER:
        error = refusal(fault)
        return _written(error.status, error.body, fault)
    response = _once(account, asked)
    response.fault = fault
    return response


def _check_key(key: str) -> None:
    if not key:
        message = (
            "You did not provide an API key. You need to provide your API key in the Authorization header."
        )
        raise StripeError(401, "invalid_request_error", message)
    if not key.startswith(("sk_test_", "rk_test_")):
        raise StripeError(401, "invalid_request_error", f"Invalid API Key provided: {key[:8]}***")


def _once(account: Account, asked: Asked) -> Response:
    """Do a POST with an Idempotency-Key once, and give the same answer each time it is asked again.

    What failed before anything happened is not kept: Stripe lets the same key try again then. A declined
    card has happened.
    """
    key = asked.idempotency_key
    if asked.method != "POST" or not key:
        return _executed(account, asked)
    question = [asked.path, asked.params]
    if kept := account.answers.get(key):
        if kept["question"] != question:
            raise StripeError(
                400,
                "idempotency_error",
                "Keys for idempotent requests can only be used with the same parameters they were first used "
                f"with. Try using a key other than '{key}' if you meant to execute a different request.",
            )
        headers = {"Idempotent-Replayed": "true", "Original-Request": kept["request"]}
        return Response(kept["status"], kept["body"], headers)
    response = _executed(account, asked)
    if response.status in (200, 402):
        account.answers[key] = {
            "question": question,
            "status": response.status,
            "body": response.body,
            "request": asked.id,
        }
    return response


def _executed(account: Account, asked: Asked) -> Response:
    try:
        result = answer(asked.method, Call(account, asked.path, asked.params))
        if not isinstance(result, dict):
            raise invalid(f"{asked.path} is a page for a browser.")
        return _written(200, expanded(account, result, asked.params.get("expand", [])))
    except StripeError as error:
        return _written(error.status, error.body)
    except Exception:
        # A bug of this server: say so where the developer looks, in the error the library raises.
        message = f"The fake Stripe server failed: {traceback.format_exc()}"
        return _written(500, StripeError(500, "api_error", message).body)


def _written(status: int, body: Obj, fault: str | None = None) -> Response:
    return Response(status, json.dumps(body, indent=2).encode(), {"Content-Type": "application/json"}, fault)


def browse(account: Account, method: str, path: str, params: Obj) -> Answer:
    """Answer a browser: pages and redirects, no key."""
    with account.lock:
        run_until(account, account.now)
        try:
            result = answer(method, Call(account, path, params))
        except StripeError as error:
            return Page(error.error["message"], error.status, "text/plain; charset=utf-8")
        return result if isinstance(result, Page | Redirect) else Page("Not a page.", 404)
