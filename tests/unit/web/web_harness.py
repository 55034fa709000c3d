"""Ask an ASGI app as a server does, without one: for tests of the web front."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import anyio
from starlette.types import ASGIApp, Message


@dataclass(frozen=True)
class Answer:
    """`all_headers` also has those that are there more than once."""

    status: int
    headers: Mapping[str, str]
    all_headers: Sequence[tuple[str, str]]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def warnings(self) -> list[str]:
        return [value for name, value in self.all_headers if name == "warning"]


def http_scope(
    method: str, path: str, query: str, headers: Sequence[tuple[str, str]], client: str = "127.0.0.1"
) -> dict[str, Any]:
    """The scope of one request, as a server makes it (ASGI 3)."""
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode("latin-1"),
        "root_path": "",
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers],
        "client": (client, 40000),
        "server": ("127.0.0.1", 8080),
    }


async def ask(
    app: ASGIApp,
    target: str,
    *,
    method: str = "GET",
    headers: Sequence[tuple[str, str]] = (("accept", "*/*"), ("host", "pacs:8080")),
    body: bytes = b"",
    address: str = "127.0.0.1",
) -> Answer:
    """Send one request from `address`; `target` is the path and, behind `?`, the raw query."""
    path, _, query = target.partition("?")
    sent: list[Message] = []

    waiting = [body]

    async def receive() -> Message:
        if not waiting:
            await anyio.sleep_forever()  # the client stays
        return {"type": "http.request", "body": waiting.pop(), "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = http_scope(method, path, query, headers, address)
    await app(scope, receive, send)
    assert sent[0]["type"] == "http.response.start"
    all_headers = [(name.decode(), value.decode("latin-1")) for name, value in sent[0]["headers"]]
    content = b"".join(message.get("body", b"") for message in sent[1:])
    return Answer(sent[0]["status"], dict(all_headers), all_headers, content)
