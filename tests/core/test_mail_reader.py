"""The mail reader of a private installation: who may read, and that a mail stays in its frame."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.core.mail import EmailMultiAlternatives
from django.test import Client
from pytest_django import Settings

from core.mail import FolderBackend
from core.mailbox import kept_mails

HTML = '<html><head></head><body><img src="cid:chart"><a href="/x">link</a></body></html>'


@pytest.fixture
def kept(settings: Settings, tmp_path: Path, db: None) -> str:
    """Keep one mail with a picture and return its name."""
    from email.mime.image import MIMEImage

    settings.EMAIL_BACKEND = "core.mail.FolderBackend"
    settings.MAIL_DIR = tmp_path
    message = EmailMultiAlternatives("Done <b>", "Plain words", "from@example.org", ["to@example.org"])
    message.attach_alternative(HTML, "text/html")
    picture = MIMEImage(b"\x89PNG\r\n\x1a\n", _subtype="png")
    picture["Content-ID"] = "<chart>"
    message.attach(picture)
    FolderBackend().send_messages([message])
    return kept_mails()[0].name


def test_a_kept_mail_is_listed_and_read_on_this_machine(kept: str, client: Client) -> None:
    assert "Done &lt;b&gt;" in client.get("/dev/mail/").content.decode()
    page = client.get(f"/dev/mail/{kept}/").content.decode()
    assert "Plain words" in page
    assert f'src="/dev/mail/{kept}/body/"' in page


def test_the_body_can_run_nothing_and_finds_its_pictures(kept: str, client: Client) -> None:
    body = client.get(f"/dev/mail/{kept}/body/")
    policy = body["Content-Security-Policy"]
    assert "script-src 'none'" in policy
    assert "sandbox" in policy
    assert "allow-scripts" not in policy
    assert body["X-Frame-Options"] == "SAMEORIGIN"
    assert f'src="/dev/mail/{kept}/pictures/chart"' in body.content.decode()
    picture = client.get(f"/dev/mail/{kept}/pictures/chart")
    assert (picture["Content-Type"], picture.content) == ("image/png", b"\x89PNG\r\n\x1a\n")


@pytest.mark.parametrize("where", [{"REMOTE_ADDR": "192.168.1.7"}, {"HTTP_X_FORWARDED_FOR": "203.0.113.9"}])
def test_other_machines_see_no_mail(kept: str, client: Client, where: dict[str, str]) -> None:
    for page in ("/dev/mail/", f"/dev/mail/{kept}/", f"/dev/mail/{kept}/body/"):
        assert client.get(page, **where).status_code == 404


def test_there_is_no_reader_in_production_or_beside_a_mail_server(
    kept: str, client: Client, settings: Settings
) -> None:
    settings.PRODUCTION = True
    assert client.get("/dev/mail/").status_code == 404
    settings.PRODUCTION = False
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    assert client.get("/dev/mail/").status_code == 404


@pytest.mark.parametrize("name", ["..%2f..%2fsecret", "1", "00000000000000000000-00000000"])
def test_a_name_that_is_no_kept_mail_is_not_found(kept: str, client: Client, name: str) -> None:
    assert client.get(f"/dev/mail/{name}/").status_code == 404
