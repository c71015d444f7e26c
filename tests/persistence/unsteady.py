"""A proxy before an S3 server that fails the first requests for some objects: a network as it is."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

WAYS = ("503", "reset", "silence")
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@dataclass
class Unsteady:
    """What fails: the next `left` connections whose first line has `word` in it."""

    url: str
    way: str = "503"
    word: str = "GET"
    left: int = 0
    struck: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    def strikes(self, line: str) -> bool:
        if self.left and self.word in line:
            self.left -= 1
            self.struck += 1
            return True
        return False


@contextmanager
def unsteady(endpoint_url: str) -> Iterator[Unsteady]:
    """Stand before `endpoint_url`; every connection carries one request."""
    there = urlsplit(endpoint_url)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        state = Unsteady(f"http://127.0.0.1:{listener.getsockname()[1]}")

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    threading.Thread(target=_carry, args=(client, str(there.hostname), there.port, state)).start()

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield state
        finally:
            state.over.set()
            listener.shutdown(socket.SHUT_RDWR)


def _carry(client: socket.socket, host: str, port: int | None, state: Unsteady) -> None:
    with client, contextlib.suppress(OSError):
        head = b""
        while b"\r\n\r\n" not in head:
            some = client.recv(65536)
            if not some:
                return
            head += some
        if state.strikes(head.split(b"\r\n", 1)[0].decode()):
            if state.way == "503":
                client.sendall(BUSY)
            elif state.way == "reset":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                state.over.wait(30)
            return
        with socket.create_connection((host, port or 80)) as server:
            # One request a connection: every request passes by `strikes`.
            server.sendall(head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
            upward = threading.Thread(target=_pump, args=(client, server))
            upward.start()
            _pump(server, client)
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
            upward.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while some := source.recv(65536):
            sink.sendall(some)
