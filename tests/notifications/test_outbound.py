"""The door to addresses that customers name: what is refused, and that nobody gets around it."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from notifications import outbound
from notifications.outbound import NoAnswer, Refused, check_address, check_url, post
from tests.notifications.receivers import Received, Receiver, Reply, receiving

PUBLIC = "93.184.216.34"


@pytest.fixture(autouse=True)
def _production(settings: Any) -> None:
    settings.WEBHOOKS_ALLOW_HTTP = False
    settings.WEBHOOKS_ALLOW_PRIVATE = False


@pytest.fixture
def local(settings: Any) -> None:
    """Allow receivers on this machine, as an operator of a local network would."""
    settings.WEBHOOKS_ALLOW_HTTP = True
    settings.WEBHOOKS_ALLOW_PRIVATE = True


Names = Callable[..., list[str]]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    """Replace the resolver, and nothing else: `names("a", "b")` gives these answers, one list a question."""
    asked: list[str] = []

    def answer(*answers: list[str]) -> list[str]:
        left = list(answers)

        def resolver(host: str, port: int, *args: Any, **kwargs: Any) -> list[Any]:
            if outbound._literal(host):
                found = [host]  # as the real one does; it is asked again when the connection is made
            else:
                asked.append(host)
                found = left.pop(0) if len(left) > 1 else left[0]
            return [
                (socket.AF_INET6 if ":" in a else socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port))
                for a in found
            ]

        monkeypatch.setattr(outbound.socket, "getaddrinfo", resolver)
        return asked

    return answer


# -- Words ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/",  # nobody on the way may read it
        "ftp://example.org/",
        "file:///etc/passwd",
        "example.org/hook",
        "https://",
        "https://user@example.org/",
        "https://user:word@example.org/",
        "https://example.org@127.0.0.1/",
        "https://example.org/a b",
        "https://example.org\\@127.0.0.1/",
        "https://example.org/\r\nX: y",
        "https://example.org/#part",
        "https://example.org:25/",
        "https://example.org:22/",
        "https://example.org:6667/",
        "https://example.org:99999/",
        "https://[fe80::1%25eth0]/",
        "https://exa​mple.org/",
    ],
)
def test_an_address_that_is_wrong_in_its_words_is_refused(url: str) -> None:
    with pytest.raises(Refused):
        check_url(url)


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("https://example.org/hooks?a=1", "example.org", 443),
        ("https://EXAMPLE.org.:8443", "example.org", 8443),
        ("https://bücher.example/", "xn--bcher-kva.example", 443),
        ("https://例え.テスト/", "xn--r8jz45g.xn--zckzah", 443),
        ("https://[2606:2800:220:1::1]/", "2606:2800:220:1::1", 443),
    ],
)
def test_an_address_of_the_public_internet_is_taken(url: str, host: str, port: int) -> None:
    target = check_url(url)
    assert (target.host, target.port) == (host, port)


HIDDEN = [
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",  # CGNAT
    "127.0.0.1",
    "127.255.0.9",
    "169.254.169.254",  # cloud metadata
    "172.31.0.1",
    "192.168.1.1",
    "192.0.2.1",
    "198.18.0.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "64:ff9b::7f00:1",  # NAT64 of 127.0.0.1
    "64:ff9b:1::a00:1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",  # 6to4 of 127.0.0.1
    "fc00::1",
    "fd12:3456::1",
    "fe80::1",
    "fec0::1",
    "ff02::1",
]


@pytest.mark.parametrize("address", HIDDEN)
def test_a_name_of_an_address_that_is_not_public_is_refused(address: str, names: Names) -> None:
    names([address])
    with pytest.raises(Refused, match="not an address on the public internet"):
        post("https://innocent.example/", b"{}", {})
    # In the midst of public ones as well.
    names([PUBLIC, address])
    with pytest.raises(Refused):
        post("https://innocent.example/", b"{}", {})


@pytest.mark.parametrize("address", [a for a in HIDDEN if ":" not in a])
def test_an_address_in_numbers_is_refused_before_anybody_is_asked(address: str, names: Names) -> None:
    asked = names([PUBLIC])
    with pytest.raises(Refused):
        check_url(f"https://{address}/")
    assert asked == []


@pytest.mark.parametrize(
    "spelling", ["127.1", "0x7f000001", "2130706433", "017700000001", "localhost", "127.0.0.1."]
)
def test_odd_spellings_of_this_machine_are_refused(spelling: str, receiver: Receiver, settings: Any) -> None:
    settings.WEBHOOKS_ALLOW_HTTP = True
    with pytest.raises(Refused):
        post(f"http://{spelling}:{receiver.port}/", b"{}", {})
    assert receiver.requests == []


def test_full_width_digits_are_no_way_in(names: Names) -> None:
    names([PUBLIC])
    with pytest.raises(Refused):
        check_url("https://１２７.０.０.１/")


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "::ffff:10.0.0.1", "64:ff9b::a00:1", "224.0.0.1", "0.0.0.0", "fe80::1"]
)
def test_metadata_and_disguises_stay_refused_where_private_networks_are_allowed(
    address: str, local: None
) -> None:
    with pytest.raises(Refused):
        check_address(ipaddress.ip_address(address))
    check_address(ipaddress.ip_address("10.0.0.1"))
    check_address(ipaddress.ip_address("fd12::1"))


# -- The connection -------------------------------------------------------------------------------------------


def test_the_connection_goes_to_the_address_that_was_checked(
    local: None, names: Names, receiver: Receiver
) -> None:
    # The name says 127.0.0.2 when it is checked, where nobody listens, and 127.0.0.1 ever after.
    asked = names(["127.0.0.2"], ["127.0.0.1"])
    with pytest.raises(NoAnswer):
        post(f"http://rebinding.example:{receiver.port}/", b"{}", {}, timeout=2)
    assert asked == ["rebinding.example"]
    assert receiver.requests == []


def test_the_name_is_asked_once_and_stays_in_the_host_header(
    local: None, names: Names, receiver: Receiver
) -> None:
    asked = names(["127.0.0.1"], ["127.0.0.2"])
    answer = post(f"http://hooks.example:{receiver.port}/a?b=c", b"{}", {"X-Own": "1"})
    assert answer.status == 200
    assert asked == ["hooks.example"]
    (request,) = receiver.requests
    assert request.headers["Host"] == f"hooks.example:{receiver.port}"
    assert (request.path, request.body, request.headers["X-Own"]) == ("/a?b=c", b"{}", "1")


def test_the_next_address_is_tried_when_the_first_does_not_answer(
    local: None, names: Names, receiver: Receiver
) -> None:
    names(["127.0.0.2", "127.0.0.1"])
    assert post(f"http://hooks.example:{receiver.port}/", b"{}", {}).status == 200


def test_proxies_of_the_environment_are_not_asked(
    local: None, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiving() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert post(receiver.url, b"{}", {}).status == 200
        assert (len(receiver.requests), len(proxy.requests)) == (1, 0)


def test_a_huge_answer_is_cut_and_the_rest_is_never_read(local: None) -> None:
    sent = []

    def decide(request: Received, number: int) -> Reply:
        sent.append(number)
        return Reply(200, {}, b"x" * 1_000_000, pieces=500)

    with receiving(decide=decide) as receiver:
        began = time.monotonic()
        answer = post(receiver.url, b"{}", {}, keep=2048)
        assert len(answer.body) == 2048
        assert time.monotonic() - began < 2


def test_a_receiver_that_hangs_is_left_after_the_time_limit(local: None) -> None:
    with receiving(decide=lambda request, number: Reply(pause=5)) as receiver:
        began = time.monotonic()
        with pytest.raises(NoAnswer, match="No answer within"):
            post(receiver.url, b"{}", {}, timeout=0.5)
        assert time.monotonic() - began < 2


def trickle(connection: socket.socket, stop: threading.Event) -> None:
    connection.recv(65536)
    try:
        for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"a" * 10_000:
            connection.sendall(bytes([byte]))
            if stop.wait(0.05):
                return
    except OSError:
        pass


def test_a_receiver_that_trickles_bytes_is_left_after_the_time_limit(local: None) -> None:
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        thread = threading.Thread(target=lambda: trickle(server.accept()[0], stop), daemon=True)
        thread.start()
        began = time.monotonic()
        with pytest.raises(NoAnswer, match="No answer within"):
            post(f"http://127.0.0.1:{port}/", b"{}", {}, timeout=0.6)
        assert time.monotonic() - began < 1.5
        stop.set()
        thread.join(5)


# -- TLS ------------------------------------------------------------------------------------------------------


@pytest.fixture
def secure(tmp_path: Path) -> Any:
    """A receiver with a certificate for hooks.example, and the file of the authority that made it."""
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", "/CN=hooks.example",
         "-addext", "subjectAltName=DNS:hooks.example"],
        check=True, capture_output=True,
    )  # fmt: skip
    with receiving() as receiver:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        receiver._server.socket = context.wrap_socket(receiver._server.socket, server_side=True)
        yield receiver, certificate


def test_the_certificate_is_checked_for_the_name_and_not_for_the_address(
    local: None, names: Names, secure: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver, certificate = secure
    names(["127.0.0.1"])
    with pytest.raises(NoAnswer, match="CERTIFICATE_VERIFY_FAILED"):
        post(f"https://hooks.example:{receiver.port}/", b"{}", {})
    monkeypatch.setattr(outbound, "_tls", lambda: ssl.create_default_context(cafile=str(certificate)))
    assert post(f"https://hooks.example:{receiver.port}/", b"{}", {}).status == 200
    with pytest.raises(NoAnswer, match=r"hostname|Hostname"):
        post(f"https://other.example:{receiver.port}/", b"{}", {})
    assert len(receiver.requests) == 1
