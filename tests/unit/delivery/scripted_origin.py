"""A STOW-RS origin server that does as it is told, on loopback, by hand: also what no framework would do."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
from anyio.abc import ByteStream, Listener, SocketAttribute
from anyio.streams.buffered import BufferedByteReceiveStream
from anyio.streams.tls import TLSListener

from router.dicom.file_meta import PrefaceReader
from router.dicom.uids import Uid
from router.dicomweb.media_types import parse_media_type
from router.dicomweb.multipart import BodyEnded, PartBegun, PartData, PartEnded, PartReader

CERTIFICATE = Path(__file__).with_name("loopback_certificate.pem")
"""For 127.0.0.1, signed by itself, good until 2119; with its key."""


@dataclass
class Asked:
    """One request. `whole` is False when the client broke off; `parts` by SOP Instance UID."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    whole: bool
    connection: int

    @property
    def parts(self) -> dict[str, tuple[Uid, bytes]]:
        """Transfer syntax and data set of each part."""
        parameters = parse_media_type(self.headers["content-type"]).parameters
        assert parameters["type"] == "application/dicom"
        reader = PartReader(parameters["boundary"])
        parts: dict[str, tuple[Uid, bytes]] = {}
        preface, data, length = PrefaceReader(), b"", ""
        for event in reader.feed(self.body):
            match event:
                case PartBegun(headers):
                    assert headers["content-type"] == "application/dicom"
                    preface, data, length = PrefaceReader(), b"", headers.get("content-length", "")
                    size = 0
                case PartData(chunk):
                    size += len(chunk)
                    data += preface.feed(chunk)
                case PartEnded():
                    assert preface.declared is not None
                    assert length in ("", str(size))
                    parts[preface.declared.sop_instance_uid] = (preface.declared.transfer_syntax_uid, data)
                case BodyEnded():
                    pass
        reader.finish()
        return parts


Script = Callable[[Asked], bytes | None]
"""Gives the bytes of the answer; None: hang up without one."""


@dataclass
class Origin:
    """The server. `hang_up_after`: close when so many bytes of a body came. `early`: answer that before the body."""

    port: int = 0
    script: Script = lambda _: None
    requests: list[Asked] = field(default_factory=list)
    connections: int = 0
    hang_up_after: int | None = None
    early: bytes | None = None
    close_after_answer: bool = False
    tls: bool = False
    before_answer: Callable[[], Awaitable[None]] | None = None

    @property
    def url(self) -> str:
        return f"http{'s' * self.tls}://127.0.0.1:{self.port}/dicom-web"

    @property
    def wholeness(self) -> list[bool]:
        """Whether each request came whole, by connection: a break is seen later than the next request."""
        return [asked.whole for asked in sorted(self.requests, key=lambda asked: asked.connection)]


def answer(status: int, body: bytes = b"", content_type: str = "application/dicom+json", **headers: str) -> bytes:
    fields = {"Content-Length": str(len(body))} | ({"Content-Type": content_type} if content_type else {})
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} X\r\n{head}\r\n".encode() + body


def module(
    stored: Mapping[str, int | None] | None = None,
    failed: Mapping[str, int | None] | None = None,
    others: tuple[int, ...] = (),
) -> bytes:
    """A Store Instances Response Module: UIDs with their Warning or Failure Reason."""

    def items(uids: Mapping[str, int | None], reason_tag: str) -> list[dict[str, object]]:
        return [
            {"00081155": {"vr": "UI", "Value": [uid]}}
            | ({} if reason is None else {reason_tag: {"vr": "US", "Value": [reason]}})
            for uid, reason in uids.items()
        ]

    content: dict[str, object] = {"00081190": {"vr": "UR"}}
    if stored:
        content["00081199"] = {"vr": "SQ", "Value": items(stored, "00081196")}
    if failed:
        content["00081198"] = {"vr": "SQ", "Value": items(failed, "00081197")}
    if others:
        content["0008119A"] = {
            "vr": "SQ",
            "Value": [{"00081197": {"vr": "US", "Value": [reason]}} for reason in others],
        }
    return json.dumps(content).encode()


def store_all(asked: Asked) -> bytes:
    return answer(200, module(stored=dict.fromkeys(asked.parts)))


@asynccontextmanager
async def serving(origin: Origin) -> AsyncIterator[Origin]:
    tcp = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
    origin.port = tcp.extra(SocketAttribute.local_port)
    listener: Listener[ByteStream] = tcp
    if origin.tls:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(CERTIFICATE)
        listener = TLSListener(tcp, context, standard_compatible=False)
    failed: BaseException | None = None
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, lambda stream: _serve(origin, stream))
        try:
            yield origin
        except Exception as error:  # noqa: BLE001 raised below, not as one of a group
            failed = error
        tasks.cancel_scope.cancel()
    if failed is not None:
        raise failed


async def _serve(origin: Origin, stream: ByteStream) -> None:
    origin.connections += 1
    connection = origin.connections
    async with stream:
        receive = BufferedByteReceiveStream(stream)
        try:
            while await _one(origin, stream, receive, connection):
                pass
        except (anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError):
            return


async def _one(origin: Origin, stream: ByteStream, receive: BufferedByteReceiveStream, connection: int) -> bool:
    head = (await receive.receive_until(b"\r\n\r\n", 65536)).decode()
    first, *lines = head.split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    assert len(headers) == len(lines)
    if origin.early is not None:
        await stream.send(origin.early)
    if origin.hang_up_after is not None:
        await receive.receive_exactly(origin.hang_up_after)
        return False
    body, whole = b"", True
    try:
        if headers.get("transfer-encoding") == "chunked":
            while size := int(await receive.receive_until(b"\r\n", 100), 16):
                body += await receive.receive_exactly(size)
                assert await receive.receive_exactly(2) == b"\r\n"
            await receive.receive_until(b"\r\n", 2)
        else:
            body = await receive.receive_exactly(int(headers.get("content-length", "0")))
    except (anyio.IncompleteRead, anyio.EndOfStream, anyio.BrokenResourceError):
        whole = False
    asked = Asked(method, target, headers, body, whole, connection)
    origin.requests.append(asked)
    if not whole or origin.early is not None:
        return False
    if origin.before_answer is not None:
        await origin.before_answer()
    reply = origin.script(asked)
    if reply is None:
        return False
    await stream.send(reply)
    return not origin.close_after_answer
