"""A door without a router behind it, and requests as an ASGI server drives the app."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio.lowlevel
from starlette.types import ASGIApp, Message
from web_harness import http_scope

from router.config.model import HttpConfig
from router.dicom.envelope import Declared, Source
from router.dicom.file_meta import meta_element
from router.dicom.uids import Uid
from router.dicomweb.multipart_writer import closing, part_opening
from router.web.app import make_app

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
TYPE = 'multipart/related; type="application/dicom"; boundary=xyz'
HEAD = {"Content-Type": "application/dicom"}


@dataclass
class FakeReception:
    """Keeps what it is given; refuses when `refuse` says so."""

    door: FakeDoor
    declared: Declared
    data: bytearray = field(default_factory=bytearray)
    ended: str = ""

    async def write(self, chunk: bytes | bytearray | memoryview) -> None:
        assert not self.ended
        self.data += chunk
        if error := self.door.write_error(self):
            raise error

    async def accept(self, *, study_instance_uid: Uid | None = None) -> None:
        assert not self.ended
        self.door.accepting += 1
        self.door.most_accepting = max(self.door.most_accepting, self.door.accepting)
        await anyio.lowlevel.checkpoint()
        self.door.accepting -= 1
        self.ended = "accepted"
        if error := self.door.accept_error(self, study_instance_uid):
            self.ended = "refused"
            raise error

    async def discard(self) -> None:
        assert not self.ended
        self.ended = "discarded"


@dataclass
class FakeDoor:
    """A door, and its only visit."""

    room: bool = True
    source: Source | None = None
    closed: int = 0
    accepting: int = 0
    most_accepting: int = 0
    receptions: list[FakeReception] = field(default_factory=list)
    receive_error: Callable[[Declared], Exception | None] = lambda _: None
    write_error: Callable[[FakeReception], Exception | None] = lambda _: None
    accept_error: Callable[[FakeReception, Uid | None], Exception | None] = lambda _reception, _study: None

    def open_visit(self, source: Source) -> FakeDoor:
        self.source = source
        return self

    def has_room(self) -> bool:
        return self.room

    def receive(self, declared: Declared) -> FakeReception:
        if error := self.receive_error(declared):
            raise error
        self.receptions.append(FakeReception(self, declared))
        return self.receptions[-1]

    async def close(self) -> None:
        self.closed += 1

    @property
    def stored(self) -> dict[str, bytes]:
        return {r.declared.sop_instance_uid: bytes(r.data) for r in self.receptions if r.ended == "accepted"}


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        decoded = json.loads(self.body)
        assert isinstance(decoded, dict)
        return decoded

    def uids(self, tag: str) -> list[str]:
        return [item["00081155"]["Value"][0] for item in self.json.get(tag, {"Value": []})["Value"]]

    def failures(self) -> dict[str, int]:
        items = self.json.get("00081198", {"Value": []})["Value"]
        return {item["00081155"]["Value"][0]: item["00081197"]["Value"][0] for item in items}

    def others(self) -> list[int]:
        return [item["00081197"]["Value"][0] for item in self.json.get("0008119A", {"Value": []})["Value"]]


DISCONNECT = b"(the client goes away)"


async def ask(
    app: ASGIApp,
    chunks: Sequence[bytes],
    *,
    path: str = "/dicom-web/studies",
    method: str = "POST",
    headers: Sequence[tuple[str, str]] = (("content-type", TYPE), ("host", "pacs:8080")),
    client: str = "127.0.0.1",
) -> Answer:
    """Send a request in the given chunks; back-pressure as in a server: a chunk is there when it is asked for."""
    waiting = list(chunks)
    sent: list[Message] = []

    async def receive() -> Message:
        if not waiting:
            return {"type": "http.request", "body": b"", "more_body": False}
        chunk = waiting.pop(0)
        if chunk is DISCONNECT:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": chunk, "more_body": True}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = http_scope(method, path, "", headers, client)
    await app(scope, receive, send)
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    head = {name.decode(): value.decode("latin-1") for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], head, sent[1]["body"])


def part10(uid: str, data_set: bytes = b"data set", syntax: str = EXPLICIT, preamble: bytes = bytes(128)) -> bytes:
    elements = ((0x0002, CT), (0x0003, uid), (0x0010, syntax))
    meta = b"".join(meta_element(element, b"UI", value.encode()) for element, value in elements)
    return preamble + b"DICM" + b"\x02\x00\x00\x00UL\x04\x00" + len(meta).to_bytes(4, "little") + meta + data_set


def body_of(*contents: bytes, head: Mapping[str, str] = HEAD) -> bytes:
    return b"".join(part_opening("xyz", head) + content for content in contents) + closing("xyz")


async def post(door: FakeDoor, body: bytes, chunk: int = 100, **more: Any) -> Answer:
    return await ask(make_app(HttpConfig(), door), [body[at : at + chunk] for at in range(0, len(body), chunk)], **more)
