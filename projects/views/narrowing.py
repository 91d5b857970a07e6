"""Which pictures of a set are shown: a filter and words to find, kept in the address from page to page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from django.http import QueryDict

from projects import selectors


@dataclass(frozen=True, slots=True)
class Narrowing:
    """Hold one of `selectors.FILTERS` and the words that are searched for."""

    show: str = "all"
    search: str = ""

    @classmethod
    def of(cls, fields: Mapping[str, str]) -> Narrowing:
        """Read `show` and `q` of an address or a form; what is not known is left out."""
        show = fields.get("show", "all")
        search = fields.get("q", "").replace("\0", "").strip()[:100]
        return cls(show if show in selectors.FILTERS else "all", search)

    @classmethod
    def posted(cls, fields: Mapping[str, str]) -> Narrowing:
        """Read the field `narrowing` of a form: the query of the page that it is on."""
        return cls.of(QueryDict(fields.get("narrowing", "")[:1000]))

    @property
    def query(self) -> str:
        """Return it as the query of an address, empty if nothing is left out."""
        given = {"show": self.show if self.show != "all" else "", "q": self.search}
        return urlencode({name: value for name, value in given.items() if value})
