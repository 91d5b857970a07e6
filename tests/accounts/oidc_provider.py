"""A small OpenID provider on this machine: discovery, keys, authorization, token and userinfo, as the standard says."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

CLIENT_ID, SECRET = "foundry", "shared secret of both"


class OpenIdProvider:
    """Answers for one person, whose claims a test sets; refuses what a careful provider refuses."""

    def __init__(self) -> None:
        self.claims: dict[str, Any] = {}
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.codes: dict[str, dict[str, str]] = {}
        self.tokens: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.answer(self, "GET", "")

            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                provider.answer(self, "POST", self.rfile.read(length).decode())

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, handler: BaseHTTPRequestHandler, method: str, body: str) -> None:
        address = urlsplit(handler.path)
        self.asked.append(f"{method} {address.path}")
        given = {name: values[0] for name, values in parse_qs(body or address.query).items()}
        status, headers, content = self.routes(method, address.path, given, handler.headers)
        handler.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(json.dumps(content).encode())

    def routes(
        self, method: str, path: str, given: dict[str, str], headers: Any
    ) -> tuple[int, dict[str, str], Any]:
        if path == "/.well-known/openid-configuration":
            return 200, {}, self.discovery()
        if path == "/keys":
            public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key()))
            return 200, {}, {"keys": [{**public, "kid": "1", "use": "sig", "alg": "RS256"}]}
        if path == "/authorize":
            code = secrets.token_urlsafe()
            self.codes[code] = given
            back = given["redirect_uri"] + "?" + urlencode({"code": code, "state": given["state"]})
            return 302, {"Location": back}, {}
        if path == "/token" and method == "POST":
            return self.token(given)
        if path == "/userinfo":
            claims = self.tokens.get(headers.get("Authorization", "").removeprefix("Bearer "))
            return (200, {}, claims) if claims else (401, {}, {"error": "invalid_token"})
        return 404, {}, {}

    def discovery(self) -> dict[str, Any]:
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "userinfo_endpoint": f"{self.url}/userinfo",
            "jwks_uri": f"{self.url}/keys",
            "response_types_supported": ["code"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "token_endpoint_auth_methods_supported": ["client_secret_post"],
        }

    def token(self, given: dict[str, str]) -> tuple[int, dict[str, str], Any]:
        # A code is good once, for the client it was made for, and only with the verifier of its challenge (PKCE).
        asked = self.codes.pop(given.get("code", ""), None)
        verifier = hashlib.sha256(given.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(verifier).decode().rstrip("=")
        if (
            asked is None
            or (given.get("client_id"), given.get("client_secret")) != (CLIENT_ID, SECRET)
            or given.get("redirect_uri") != asked["redirect_uri"]
            or asked.get("code_challenge") != challenge
        ):
            return 400, {}, {"error": "invalid_grant"}
        now = int(time.time())
        identity = {"iss": self.url, "aud": CLIENT_ID, "iat": now, "exp": now + 60, **self.claims}
        access = secrets.token_urlsafe()
        self.tokens[access] = dict(self.claims)
        signed = jwt.encode(identity, self.key, algorithm="RS256", headers={"kid": "1"})
        return 200, {}, {"access_token": access, "token_type": "Bearer", "expires_in": 60, "id_token": signed}


@contextmanager
def running_provider() -> Iterator[OpenIdProvider]:
    provider = OpenIdProvider()
    thread = Thread(target=provider.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        provider.server.shutdown()
        provider.server.server_close()
        thread.join()
