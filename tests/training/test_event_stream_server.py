"""Server-Sent Events of a real server: what open streams cost it."""

from __future__ import annotations

import socket
import threading

import pytest
import uvicorn
from django.db import connection

from config.asgi import application
from core.processes import wait_until
from tests.training.theatre import Theatre

pytestmark = pytest.mark.django_db(transaction=True)


def database_connections() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
        return int(cursor.fetchone()[0])


def test_many_idle_streams_of_a_real_server_hold_neither_threads_nor_database_connections() -> None:
    theatre = Theatre()
    server = uvicorn.Server(
        uvicorn.Config(application, port=0, lifespan="off", log_level="error", timeout_graceful_shutdown=1)
    )
    running = threading.Thread(target=server.run, daemon=True)
    running.start()
    assert wait_until(lambda: server.started, timeout=20)
    port = server.servers[0].sockets[0].getsockname()[1]
    request = (
        f"GET /api/v1/trainings/{theatre.job.uid}/stream HTTP/1.1\r\nHost: testserver\r\n"
        f"Authorization: Bearer {theatre.key.text}\r\n\r\n"
    ).encode()

    def opened() -> socket.socket:
        client = socket.create_connection(("127.0.0.1", port), timeout=20)
        client.sendall(request)
        read(client, b"id: 2\n")
        return client

    def read(client: socket.socket, end: bytes) -> None:
        text = b""
        while end not in text:
            piece = client.recv(65536)
            assert piece, text
            text += piece

    clients = [opened()]
    threads, connections = threading.active_count(), database_connections()
    clients += [opened() for _number in range(40)]
    # Those of the requests themselves end a moment after their answers; none is there for a stream.
    assert wait_until(
        lambda: threading.active_count() <= threads and database_connections() <= connections, timeout=20
    ), (threading.active_count(), threads, database_connections(), connections)
    theatre.say("for all")
    for client in clients:
        read(client, b"id: 3\n")
    # Who is gone is noticed, and makes room.
    for client in clients:
        client.close()
    streams = application.application_mapping["http"].app
    assert wait_until(lambda: not streams.open, timeout=20)
    server.should_exit = True
    running.join(20)
    assert not running.is_alive()
