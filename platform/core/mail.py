"""Send mail from a triple of templates; without a mail server, write each mail to a folder."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.core.mail.backends.base import BaseEmailBackend
from django.core.mail.message import EmailMessage
from django.template.loader import render_to_string
from django.utils import timezone, translation


@dataclass(frozen=True, slots=True)
class InlinePicture:
    """A picture shown inside a mail as `<img src="cid:NAME">`."""

    name: str
    content: bytes
    subtype: str = "png"


@contextmanager
def written_for(language: str, time_zone: str) -> Iterator[None]:
    """Write what is rendered inside in the words and the time of a reader."""
    with translation.override(language), timezone.override(time_zone):
        yield


def send_mail(
    template: str,
    *,
    to: str,
    language: str,
    time_zone: str = "UTC",
    context: Mapping[str, Any],
    pictures: Sequence[InlinePicture] = (),
) -> None:
    """Send `emails/<template>/{subject.txt,body.txt,body.html}` in `language`; raises what the server raises.

    Times are told in `time_zone`.
    """
    from email.mime.image import MIMEImage

    with written_for(language, time_zone):
        values = {**context, "site_name": settings.SITE_NAME, "site_url": settings.SITE_URL}
        subject = " ".join(render_to_string(f"emails/{template}/subject.txt", values).split())
        message = EmailMultiAlternatives(
            subject,
            render_to_string(f"emails/{template}/body.txt", values),
            settings.DEFAULT_FROM_EMAIL,
            [to],
        )
        message.attach_alternative(render_to_string(f"emails/{template}/body.html", values), "text/html")
    # Pictures belong to the text: "related" lets mail readers show them in place.
    message.mixed_subtype = "related"  # type: ignore[attr-defined]
    for picture in pictures:
        part = MIMEImage(picture.content, _subtype=picture.subtype)
        part["Content-ID"] = f"<{picture.name}>"
        part["Content-Disposition"] = "inline"
        message.attach(part)
    message.send()


class FolderBackend(BaseEmailBackend):
    """Write each mail as an .eml file under `settings.MAIL_DIR`, whole or not at all."""

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        folder = Path(settings.MAIL_DIR)
        folder.mkdir(parents=True, exist_ok=True)
        for message in email_messages:
            name = f"{time.time_ns():020d}-{secrets.token_hex(4)}.eml"
            aside = folder / f".{name}"
            aside.write_bytes(message.message().as_bytes())
            aside.rename(folder / name)
        return len(email_messages)
