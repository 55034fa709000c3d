"""One kept-alive HTTP connection that loads both servers alike: bodies made before, TCP_NODELAY, answers counted."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

BOUNDARY = "sendrs-bench"
STOW_HEADERS = {
    "Content-Type": f'multipart/related; type="application/dicom"; boundary={BOUNDARY}',
    "Accept": "application/dicom+json",
}
FILES = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
JSON = {"Accept": "application/dicom+json"}
TIMEOUT_S = 300.0
READ_BYTES = 1024 * 1024


class Client:
    """A connection to 127.0.0.1, opened at once, and again where the server ended it (ours: after 1,000)."""

    def __init__(self, port: int):
        self._buffer = bytearray(READ_BYTES)
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
        self._connect()

    def _connect(self) -> None:
        self._connection.connect()
        self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def post(self, path: str, body: bytes) -> None:
        """Store one body; raises RuntimeError unless all of it was taken."""
        self._ask("POST", path, STOW_HEADERS, body)

    def get(self, path: str, headers: Mapping[str, str]) -> int:
        """Read one answer to its end; gives its bytes."""
        return self._ask("GET", path, headers, None)

    def _ask(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None) -> int:
        if self._connection.sock is None:
            self._connect()
        self._connection.request(method, path, body, dict(headers))
        answer = self._connection.getresponse()
        size, view = 0, memoryview(self._buffer)
        while count := answer.readinto(view):
            size += count
        if answer.status != http.HTTPStatus.OK:
            raise RuntimeError(f"{method} {path}: {answer.status} {bytes(view[:300])!r}")
        return size

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()


def bodies(paths: Sequence[Path], per_request: int) -> Iterator[bytes]:
    """Make the bodies that store these files, so many a request."""
    for start in range(0, len(paths), per_request):
        pieces = []
        for path in paths[start : start + per_request]:
            pieces += [f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode(), path.read_bytes(), b"\r\n"]
        yield b"".join((*pieces, f"--{BOUNDARY}--\r\n".encode()))


def store(port: int, made: Iterable[bytes]) -> float:
    """Store all the bodies one after another over one connection; gives the seconds that it took."""
    with Client(port) as client:
        start = time.perf_counter()
        for body in made:
            client.post("/dicom-web/studies", body)
        return time.perf_counter() - start


def ask_ms(client: Client, path: str) -> float:
    """Search once; gives the milliseconds."""
    start = time.perf_counter()
    client.get(path, JSON)
    return (time.perf_counter() - start) * 1000
