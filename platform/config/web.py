"""Serve HTTP and WebSockets on a listening socket that was handed down: `python -m config.web FD`.

Several such processes share one socket, so each of them can die and come back while the others answer. (uvicorn's own
`--fd` takes every socket for a Unix one, and TCP's delays of small answers stay on.)
"""

from __future__ import annotations

import socket
import sys

import uvicorn


def main() -> None:
    listener = socket.socket(fileno=int(sys.argv[1]))
    config = uvicorn.Config(
        "config.asgi:application",
        access_log=False,
        lifespan="off",
        server_header=False,
        # Who called is decided in one place, by LF_PROXIES (`core.http.address`); a caller could write these itself.
        proxy_headers=False,
        timeout_graceful_shutdown=3,
    )
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
