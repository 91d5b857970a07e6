"""How the tests of accounts come in: browsers of their own, codes of an app, a security key in software."""

from __future__ import annotations

import hashlib
import html
import itertools
import json
import re
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from django.http import HttpResponse
from django.test import Client
from fido2.cose import ES256
from fido2.utils import websafe_encode
from fido2.webauthn import (
    AttestationObject,
    AttestedCredentialData,
    AuthenticatorData,
    CollectedClientData,
)

from accounts.models import User

PASSWORD = "correct horse"
ORIGIN = "http://localhost"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 "
    "(KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1"
)


def browser(agent: str = FIREFOX, **extra: Any) -> Client:
    """Return a browser at an address nobody else has: what limits have counted outlives a test."""
    address = f"2001:db8:{secrets.token_hex(2)}:{secrets.token_hex(2)}::1"
    defaults = {"SERVER_NAME": "localhost", "REMOTE_ADDR": address, "HTTP_USER_AGENT": agent}
    return Client(**(defaults | extra))


def log_in(client: Client, person: User, password: str = PASSWORD) -> HttpResponse:
    """Log in through the form."""
    return client.post("/account/login/", {"login": person.email, "password": password})


def confirm(client: Client, password: str = PASSWORD) -> None:
    """Say the password again, as pages ask before they change how somebody gets in."""
    answer = client.post("/account/reauthenticate/", {"password": password, "next": "/profile/"})
    assert answer.status_code == 302, answer.content.decode()


def entered(person: User, agent: str = FIREFOX, **extra: Any) -> Client:
    """Return a browser where `person` is logged in and has just said the password again."""
    client = browser(agent, **extra)
    assert log_in(client, person).status_code == 302
    confirm(client)
    return client


def is_in(client: Client) -> bool:
    """Tell whether the browser is logged in."""
    return client.get("/profile/").status_code == 200


def code_of(secret: str, ahead: int = 0) -> str:
    """Return what an app shows now; `ahead` counts codes, since each is taken once."""
    return format_hotp_value(hotp_value(secret, int(time.time()) // 30 + ahead))


def with_app(client: Client) -> str:
    """Set up an authenticator app through the pages and return its secret."""
    page = client.get("/account/2fa/totp/activate/").content.decode()
    found = re.search(r'id="totp-secret">([A-Z2-7]{32})<', page)
    assert found, page
    answer = client.post("/account/2fa/totp/activate/", {"code": code_of(found[1], -1)})
    assert (answer.status_code, answer["Location"]) == (302, "/account/2fa/recovery-codes/")
    return found[1]


def recovery_codes(client: Client) -> list[str]:
    """Read the recovery codes off their page."""
    page = client.get("/account/2fa/recovery-codes/").content.decode()
    found = re.search(r'<pre id="recovery-codes"[^>]*>(.*?)</pre>', page, re.S)
    assert found, page
    return html.unescape(found[1]).split()


def options_on(page: str) -> dict[str, Any]:
    """Return what the server asks of a security key, from the data on the page."""
    found = re.search(r'<script type="application/json">(.*?)</script>', page, re.S)
    assert found, page
    options: dict[str, Any] = next(iter(json.loads(found[1]).values()))["publicKey"]
    return options


@dataclass
class SoftwareKey:
    """Do what a security key and the browser do between them (WebAuthn level 2, ES256, no attestation)."""

    origin: str = ORIGIN
    secret: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )
    id: bytes = field(default_factory=lambda: secrets.token_bytes(16))
    user_handle: str = ""
    counter: Any = field(default_factory=lambda: itertools.count(1))

    def create(self, options: dict[str, Any], *, is_passkey: bool = False) -> str:
        """Answer a request to make a credential."""
        self.user_handle = options["user"]["id"]
        credential = AttestedCredentialData.create(
            b"\0" * 16, self.id, ES256.from_cryptography_key(self.secret.public_key())
        )
        flags = AuthenticatorData.FLAG.UP | AuthenticatorData.FLAG.AT
        if is_passkey:
            flags |= AuthenticatorData.FLAG.UV
        seen = AuthenticatorData.create(self._rp(options["rp"]["id"]), flags, next(self.counter), credential)
        response = {
            "clientDataJSON": websafe_encode(self._client("webauthn.create", options)),
            "attestationObject": websafe_encode(AttestationObject.create("none", seen, {})),
        }
        return self._answer(response, {"credProps": {"rk": is_passkey}})

    def get(self, options: dict[str, Any], *, is_verified: bool = False) -> str:
        """Answer a request to prove that the key is here."""
        flags = AuthenticatorData.FLAG.UP | (
            AuthenticatorData.FLAG.UV if is_verified else AuthenticatorData.FLAG(0)
        )
        seen = AuthenticatorData.create(self._rp(options["rpId"]), flags, next(self.counter))
        client = self._client("webauthn.get", options)
        signed = self.secret.sign(seen + hashlib.sha256(client).digest(), ec.ECDSA(hashes.SHA256()))
        response = {
            "clientDataJSON": websafe_encode(client),
            "authenticatorData": websafe_encode(seen),
            "signature": websafe_encode(signed),
            "userHandle": self.user_handle,
        }
        return self._answer(response, {})

    def _client(self, kind: str, options: dict[str, Any]) -> bytes:
        return bytes(CollectedClientData.create(kind, options["challenge"], self.origin))

    def _rp(self, name: str) -> bytes:
        return hashlib.sha256(name.encode()).digest()

    def _answer(self, response: dict[str, Any], extensions: dict[str, Any]) -> str:
        mine = websafe_encode(self.id)
        answer = {"id": mine, "rawId": mine, "type": "public-key", "response": response}
        return json.dumps({**answer, "clientExtensionResults": extensions})
