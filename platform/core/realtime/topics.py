"""What a browser may subscribe to: each kind of topic brings its own door and its own store.

A higher layer registers its kinds in `AppConfig.ready()`. A topic reads `<kind>:<uid>` (`training:trn_...`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

Items = list[dict[str, Any]]


def _goes_on(item: dict[str, Any]) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class TopicKind:
    """Hold what the live path needs to know of one kind of topic; all three run in a thread and may query.

    `may_read(user, uid)` tells whether the person may see the topic; `events_after(uid, after, limit)` returns stored
    items in order of their dense `seq`; `heads(uids)` returns the last seq of each. `is_last(item)` tells of an item
    that nothing can come after it.
    """

    may_read: Callable[[Any, str], bool]
    events_after: Callable[[str, int, int], Items]
    heads: Callable[[Iterable[str]], dict[str, int]]
    is_last: Callable[[dict[str, Any]], bool] = _goes_on


_kinds: dict[str, TopicKind] = {}


def register(name: str, kind: TopicKind) -> None:
    """Make topics `<name>:<uid>` available."""
    _kinds[name] = kind


def find(topic: object) -> tuple[TopicKind, str] | None:
    """Return the kind and the uid of a topic, or None if there is no such kind."""
    if not isinstance(topic, str) or len(topic) > 80:
        return None
    name, _, uid = topic.partition(":")
    kind = _kinds.get(name)
    return (kind, uid) if kind is not None and uid else None
