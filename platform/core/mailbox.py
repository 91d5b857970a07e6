"""Read the mails that `core.mail.FolderBackend` kept in a folder."""

from __future__ import annotations

import email
import email.policy
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path

from django.conf import settings

NAME = re.compile(r"[0-9]{20}-[0-9a-f]{8}\Z")
_CID = re.compile(r"""(["'(])cid:([^"')\s]+)""")
_NEWEST = 200


@dataclass(frozen=True, slots=True)
class Mail:
    """Hold one kept mail. `name` is its file without the ending."""

    name: str
    message: EmailMessage

    @property
    def subject(self) -> str:
        return str(self.message["Subject"] or "")

    @property
    def sender(self) -> str:
        return str(self.message["From"] or "")

    @property
    def recipients(self) -> str:
        return str(self.message["To"] or "")

    @property
    def sent_at(self) -> datetime:
        return datetime.fromtimestamp(int(self.name[:20]) / 1e9, UTC)

    @property
    def text(self) -> str:
        return self._body("plain")

    @property
    def html(self) -> str:
        return self._body("html")

    def html_with_pictures(self, address: str) -> str:
        """Return the HTML body in which `cid:NAME` became `address` + NAME."""
        return _CID.sub(lambda match: f"{match[1]}{address}{match[2]}", self.html)

    def picture(self, cid: str) -> tuple[bytes, str] | None:
        """Return the bytes and the type of the picture `cid`, if the mail carries one."""
        for part in self.message.walk():
            if part.get_content_maintype() == "image" and part["Content-ID"] == f"<{cid}>":
                content = part.get_payload(decode=True)
                return (content, part.get_content_type()) if isinstance(content, bytes) else None
        return None

    def _body(self, kind: str) -> str:
        for part in self.message.walk():
            if part.get_content_type() == f"text/{kind}" and part.get_content_disposition() != "attachment":
                return str(part.get_content())
        return ""


def kept_mails() -> list[Mail]:
    """Return the newest mails, the latest first."""
    folder = Path(settings.MAIL_DIR)
    names = sorted((path.stem for path in folder.glob("*.eml") if NAME.match(path.stem)), reverse=True)
    found = (kept_mail(name) for name in names[:_NEWEST])
    return [mail for mail in found if mail is not None]


def kept_mail(name: str) -> Mail | None:
    """Return one mail, or None; `name` is checked before it meets the file system."""
    if not NAME.match(name):
        return None
    try:
        content = (Path(settings.MAIL_DIR) / f"{name}.eml").read_bytes()
    except FileNotFoundError:
        return None
    message = email.message_from_bytes(content, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return Mail(name, message)
