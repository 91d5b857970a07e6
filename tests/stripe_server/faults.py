"""Fail a share of the calls, as a network and a busy service do; the same ones for the same seed."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from tests.stripe_server.errors import StripeError, invalid

BEFORE = ("500", "429", "drop_before")  # nothing has happened
AFTER = ("drop_after", "timeout")  # it has happened, and the caller cannot know
KINDS = (*BEFORE, *AFTER)


@dataclass
class Faults:
    """Say which fault the next call meets: first those in `script`, then by chance."""

    rate: float = 0.0
    kinds: tuple[str, ...] = KINDS
    seed: int = 0
    script: list[str | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        if unknown := {kind for kind in (*self.kinds, *self.script) if kind is not None} - set(KINDS):
            raise invalid(f"Unknown faults: {', '.join(sorted(unknown))}; known are {', '.join(KINDS)}.")
        self._random = random.Random(self.seed)

    def draw(self) -> str | None:
        if self.script:
            return self.script.pop(0)
        if self.rate and self._random.random() < self.rate:
            return self._random.choice(self.kinds)
        return None


def refusal(kind: str) -> StripeError:
    if kind == "429":
        return StripeError(429, "invalid_request_error", "Request rate limit exceeded.", code="rate_limit")
    return StripeError(500, "api_error", "An error occurred internally with the Stripe API.")
