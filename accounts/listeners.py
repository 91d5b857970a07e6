"""Who is told that somebody joined or left a team, or deleted their account.

accounts lies below what wants to know (notifications), so those register themselves in `AppConfig.ready()`. They are
called inside the transaction of the change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accounts.actor import Actor
    from accounts.models import User


@dataclass(frozen=True, slots=True)
class MemberChange:
    """Say what changed: joined as `role`, or left having had it."""

    is_added: bool
    role: str


MemberListener = Callable[["Actor", "User", MemberChange], None]

PersonListener = Callable[["User"], None]

_listeners: list[MemberListener] = []
_farewells: list[PersonListener] = []


def on_member_change(listener: MemberListener) -> None:
    """Have `listener` called for every change; registering it again changes nothing."""
    if listener not in _listeners:
        _listeners.append(listener)


def on_person_deleted(listener: PersonListener) -> None:
    """Have `listener` called when a person deletes their account; registering it again changes nothing."""
    if listener not in _farewells:
        _farewells.append(listener)


def tell_person_deleted(person: User) -> None:
    """Call every listener: what it holds about `person` goes now."""
    for listener in _farewells:
        listener(person)


def tell_member_change(actor: Actor, person: User, *, is_added: bool, role: str) -> None:
    """Call every listener: `actor` let `person` in, or took them out."""
    for listener in _listeners:
        listener(actor, person, MemberChange(is_added, role))
