"""Say no as Stripe does: status, type, code, message and the parameter at fault."""

from __future__ import annotations

from typing import Any


class StripeError(Exception):
    """Carry an answer of the API that is not a success, as `{"error": {...}}`."""

    def __init__(self, status: int, kind: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.status = status
        self.error: dict[str, Any] = {"type": kind, "message": message}
        self.error |= {name: value for name, value in details.items() if value is not None}

    @property
    def body(self) -> dict[str, Any]:
        return {"error": self.error}


def invalid(message: str, param: str | None = None, code: str | None = None) -> StripeError:
    return StripeError(400, "invalid_request_error", message, param=param, code=code)


def required(param: str) -> StripeError:
    return invalid(f"Missing required param: {param}.", param, "parameter_missing")


def missing(kind: str, identifier: str, param: str = "id") -> StripeError:
    """Answer 404, and name the object as Stripe does: by its `object` ("No such checkout.session: …")."""
    message = f"No such {kind}: '{identifier}'"
    return StripeError(404, "invalid_request_error", message, param=param, code="resource_missing")


def declined(payment_intent: str | None = None) -> StripeError:
    details = {"payment_intent": {"id": payment_intent, "object": "payment_intent"}} if payment_intent else {}
    return StripeError(
        402,
        "card_error",
        "Your card was declined.",
        code="card_declined",
        decline_code="generic_decline",
        **details,
    )


def no_card(param: str | None = None) -> StripeError:
    return invalid(
        "This customer has no attached payment source or default payment method. "
        "Please consider adding a default payment method.",
        param,
        "resource_missing",
    )
