"""Run the fake Stripe for a developer: `python -m tests.stripe_server --webhook-url URL`."""

from __future__ import annotations

import argparse
import signal
import threading

from tests.stripe_server import StripeServer


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.stripe_server", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=12111)
    parser.add_argument("--webhook-url", action="append", help="where events go; may be given several times")
    parser.add_argument("--webhook-secret", default="whsec_test")
    options = parser.parse_args()
    server = StripeServer(
        host=options.host,
        port=options.port,
        webhook_url=options.webhook_url,
        webhook_secret=options.webhook_secret,
    )
    stopped = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stopped.set())
    with server:
        print(f"Stripe, our own: {server.url} with any key sk_test_…; everything is forgotten at the end.")
        print(f"A month later: curl -d '{{\"seconds\": 2678400}}' {server.url}/_control/advance", flush=True)
        stopped.wait()


if __name__ == "__main__":
    main()
