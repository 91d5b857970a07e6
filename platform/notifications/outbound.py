"""The one door to addresses that customers name. Knows no models.

A name is resolved once, every address it gives is checked, and the connection goes to an address that was checked:
what the name says a moment later no longer matters. Nothing is followed, no proxy is asked, and the whole exchange
ends after `timeout` seconds, however slowly the other side speaks.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import urlsplit

import idna
from django.conf import settings
from django.utils.translation import gettext as _
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

TIMEOUT = 15.0
CONNECT_TIMEOUT = 5.0
# 80 and 443, and everything that an ordinary account can listen on: receivers in development and behind tunnels use
# 3000, 5000, 8443 and the like. Below 1024 live mail, FTP and LDAP, which a POST can be made to speak to; above it
# the ports that browsers refuse for the same reason (https://fetch.spec.whatwg.org/#bad-port).
_LOW_PORTS = frozenset({80, 443})
_BAD_PORTS = frozenset(
    {1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, *range(6665, 6670), 6679, 6697, 10080}
)

# Never reached, whatever the settings: cloud metadata, groups, "this host", and addresses that hide another one.
_NEVER = [
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",
        "169.254.0.0/16",
        "192.0.0.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/96",  # unspecified, IPv4-compatible; loopback is looked at before
        "::ffff:0:0/96",  # IPv4-mapped
        "64:ff9b::/96",  # NAT64
        "64:ff9b:1::/48",  # NAT64 of one's own
        "100::/64",
        "2001::/23",  # Teredo and other protocols
        "2002::/16",  # 6to4
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
    )
]
_PRIVATE = [
    ipaddress.ip_network(text)
    for text in (
        "10.0.0.0/8",
        "100.64.0.0/10",  # CGNAT
        "127.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "::1/128",
        "fc00::/7",
    )
]


class Refused(Exception):
    """Say that an address may not be written to; the message is for the person who named it."""


class NoAnswer(Exception):
    """Say that there was no answer: no such name, no connection, no valid certificate, too slow."""


@dataclass(frozen=True, slots=True)
class Target:
    """An address that passed the check of its words."""

    scheme: str
    host: str  # ASCII, lower case; an IPv6 literal without brackets
    port: int
    path: str

    @property
    def host_header(self) -> str:
        """Give the value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == {"http": 80, "https": 443}[self.scheme] else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: the status, headers by lower-case name, and the first bytes of the body."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


def check_url(url: str) -> Target:
    """Return the parts of `url`; raise Refused if its words alone rule it out. Asks no name server."""
    if not url.isprintable() or re.search(r"[\s\\]", url):
        raise Refused(_("The address holds a space, a backslash or an invisible character."))
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise Refused(_("This is not an address.")) from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise Refused(_("An address begins with https:// and names a host."))
    if parts.scheme == "http" and not settings.WEBHOOKS_ALLOW_HTTP:
        raise Refused(_("Use https: over http anybody on the way can read and change the message."))
    if parts.username is not None or parts.password is not None:
        raise Refused(_("Leave name and password out of the address; every message is signed instead."))
    if parts.fragment:
        raise Refused(_("Leave out what follows the # sign; it is never sent."))
    port = {"http": 80, "https": 443}[parts.scheme] if port is None else port
    if (port < 1024 and port not in _LOW_PORTS) or port in _BAD_PORTS:
        raise Refused(
            _("Port %(port)s is not for web servers. Use 443, 80 or one above 1023.") % {"port": port}
        )
    host = _ascii_host(parts.hostname)
    if (literal := _literal(host)) is not None:
        check_address(literal)
    query = f"?{parts.query}" if parts.query else ""
    return Target(parts.scheme, host, port, (parts.path or "/") + query)


def check_address(address: IPAddress) -> None:
    """Raise Refused unless messages may go to this IP address."""
    is_private = any(address in network for network in _PRIVATE if network.version == address.version)
    if is_private and settings.WEBHOOKS_ALLOW_PRIVATE:
        return
    is_never = any(address in network for network in _NEVER if network.version == address.version)
    if is_private or is_never or not address.is_global or address.is_multicast:
        raise Refused(
            _("%(address)s is not an address on the public internet.") % {"address": address}
            + (
                " " + _("The operator can allow private networks: LF_WEBHOOKS_ALLOW_PRIVATE.")
                if is_private
                else ""
            )
        )


def resolve(target: Target) -> list[IPAddress]:
    """Return every address of the target's name; raise Refused if one of them is not public, or NoAnswer."""
    try:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise NoAnswer(_("The name %(host)s was not found.") % {"host": target.host}) from error
    addresses = list(
        dict.fromkeys(ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found)
    )
    for address in addresses:
        check_address(address)
    return addresses


def post(
    url: str, body: bytes, headers: Mapping[str, str], *, keep: int = 2048, timeout: float = TIMEOUT
) -> Answer:
    """POST `body` and return the answer with at most `keep` bytes of its body; raise Refused or NoAnswer.

    Any status is an answer, a redirect too. The rest of a longer body is never read.
    """
    target = check_url(url)
    ends_at = time.monotonic() + timeout
    addresses = resolve(target)
    with _connected(target, addresses, ends_at) as (connection, watch):
        try:
            connection.request(
                "POST",
                target.path,
                body=body,
                headers={
                    "Host": target.host_header,
                    "Accept-Encoding": "identity",
                    "Connection": "close",
                    **headers,
                },
                preload_content=False,
                decode_content=False,
            )
            response = connection.getresponse()
        except (OSError, HTTPError, ValueError) as error:
            raise NoAnswer(watch.words(error)) from error
        if watch.is_over:  # headers that were cut off look like headers that ended
            raise NoAnswer(watch.words(TimeoutError()))
        kept = b""
        # The status is the answer: a body that ends in the middle changes nothing.
        with contextlib.suppress(OSError, HTTPError, ValueError):
            while len(kept) < keep and (piece := response.read1(keep - len(kept))):
                kept += piece
        names = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status, names, kept)


class _Watch:
    """Cut the connection when the time is over: socket timeouts begin anew with each byte that trickles in."""

    def __init__(self, connection: HTTPConnection, ends_at: float) -> None:
        self._connection = connection
        self.is_over = False
        self._timer = threading.Timer(max(0.01, ends_at - time.monotonic()), self._cut)
        self._timer.daemon = True

    def __enter__(self) -> _Watch:
        self._timer.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._timer.cancel()
        self._connection.close()

    def _cut(self) -> None:
        self.is_over = True
        sock = self._connection.sock
        if sock is not None:
            with contextlib.suppress(OSError):
                # Of the plain socket: a TLS one would first wait for the other side.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def words(self, error: BaseException) -> str:
        """Say why there was no answer."""
        if self.is_over or isinstance(error, TimeoutError):
            return _("No answer within %(n)s seconds.") % {"n": round(TIMEOUT)}
        return _("The connection broke: %(why)s") % {"why": f"{type(error).__name__}: {error}"[:200]}


@contextlib.contextmanager
def _connected(
    target: Target, addresses: list[IPAddress], ends_at: float
) -> Iterator[tuple[HTTPConnection, _Watch]]:
    """Connect to the first of the checked addresses that answers."""
    problem = _("The name %(host)s has no address.") % {"host": target.host}
    for address in addresses:
        left = ends_at - time.monotonic()
        if left <= 0:
            raise NoAnswer(_("No answer within %(n)s seconds.") % {"n": round(TIMEOUT)})
        connection = _connection(target, str(address), min(CONNECT_TIMEOUT, left))
        with _Watch(connection, ends_at) as watch:
            try:
                connection.connect()
            except (OSError, HTTPError, ValueError) as error:  # a wrong name in a certificate is a ValueError
                problem = _("No connection: %(why)s") % {"why": _reason(error)}
                continue
            assert connection.sock is not None
            connection.sock.settimeout(max(0.01, ends_at - time.monotonic()))
            yield connection, watch
            return
    raise NoAnswer(problem)


def _connection(target: Target, address: str, timeout: float) -> HTTPConnection:
    if target.scheme == "http":
        return HTTPConnection(address, target.port, timeout=timeout)
    return HTTPSConnection(
        address,
        target.port,
        timeout=timeout,
        ssl_context=_tls(),
        cert_reqs="CERT_REQUIRED",
        server_hostname=target.host,
        assert_hostname=target.host,
    )


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    # The system's authorities; SSL_CERT_FILE adds those of a company.
    return ssl.create_default_context()


def _reason(error: BaseException) -> str:
    # urllib3 wraps the cause together with the connection's address in memory.
    cause = error.__cause__ or error
    return f"{type(cause).__name__}: {cause}"[:200]


def _literal(host: str) -> IPAddress | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _ascii_host(host: str) -> str:
    """Return a host name as name servers know it (`bücher.example` -> `xn--bcher-kva.example`)."""
    if ":" in host:
        if _literal(host) is None or "%" in host:
            raise Refused(_("This is not an address."))
        return host
    plain = host.rstrip(".")
    if re.fullmatch(r"[a-z0-9_.-]{1,253}", plain):
        # Numbers in odd spellings (127.1, 0x7f000001) are told apart when they are resolved.
        return plain
    try:
        return idna.encode(plain, uts46=True).decode("ascii")
    except idna.IDNAError:
        raise Refused(_("There cannot be a host with this name.")) from None
