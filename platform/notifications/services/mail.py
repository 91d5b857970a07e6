"""Mail to one person, in their language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from accounts.models import User
from core.mail import InlinePicture, send_mail


def write_to(
    person: User, template: str, context: Mapping[str, Any], *, pictures: Sequence[InlinePicture] = ()
) -> None:
    """Send the mail `template` (see `core.mail.send_mail`) to `person`; raises what the mail server raises."""
    send_mail(
        template,
        to=person.email,
        language=person.language,
        time_zone=person.time_zone,
        context={"person": person, **context},
        pictures=pictures,
    )
