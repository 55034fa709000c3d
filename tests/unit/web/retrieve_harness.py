"""The retrieve routes on a real store; the index is a list. Driven as an ASGI server drives the app."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import pydicom
from pydicom.dataset import Dataset
from starlette.applications import Starlette
from starlette.types import ASGIApp, Message
from web_harness import http_scope

from router.dicom.envelope import Declared, Source
from router.dicom.part10 import PrefaceReader
from router.dicom.uids import AETitle, Uid
from router.dicomweb.media_types import parse_media_type
from router.dicomweb.multipart import PartBegun, PartData, PartReader
from router.search import Scope, StoredInstance
from router.store.files import Store
from router.web.retrieve import retrieve_routes

DICOM = 'multipart/related; type="application/dicom"'
ANY = f"{DICOM}; transfer-syntax=*"
OCTETS = 'multipart/related; type="application/octet-stream"'
ANY_OCTETS = f"{OCTETS}; transfer-syntax=*"
JSON = "application/dicom+json"
SOURCE = Source("C-STORE", "192.0.2.77", AETitle("SECRETAE"), AETitle("SENDRS"))
BASE = "http://pacs:8080/dicom-web"


@dataclass
class Part:
    headers: Mapping[str, str]
    content: bytearray = field(default_factory=bytearray)

    @property
    def data_set(self) -> Dataset:
        return pydicom.dcmread(io.BytesIO(self.content))


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    chunks: list[bytes]
    ended: bool
    """Whether the server was told that the body is whole."""

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def parts(self) -> list[Part]:
        """Take a multipart body apart. Raises PeerError when it broke off."""
        reader = PartReader(parse_media_type(self.headers["content-type"]).parameters["boundary"])
        parts: list[Part] = []
        for event in reader.feed(self.body):
            match event:
                case PartBegun(headers):
                    parts.append(Part(headers))
                case PartData(data):
                    parts[-1].content += data
        reader.finish()
        return parts


@dataclass
class Archive:
    """A store, what it holds, and the app."""

    store: Store
    instances: list[StoredInstance] = field(default_factory=list)
    app: ASGIApp = field(init=False)

    def __post_init__(self) -> None:
        self.app = Starlette(routes=retrieve_routes("/dicom-web", self, self.store))  # type: ignore[arg-type]

    async def stored(self, scope: Scope) -> list[StoredInstance]:
        """What `Index.stored` does."""
        return [
            one
            for one in self.instances
            if scope.study in (None, one.study)
            and scope.series in (None, one.series)
            and scope.instance in (None, one.sop_instance_uid)
        ]

    async def add(self, file: bytes, *, study: str = "1.2.3", series: str = "1.2.3.4") -> StoredInstance:
        """Store the data set of a PS3.10 file as it is."""
        reader = PrefaceReader()
        content = bytes(reader.feed(file))
        assert reader.declared is not None
        return await self.add_data_set(reader.declared, content, study=study, series=series)

    async def add_data_set(
        self, declared: Declared, content: bytes, *, study: str = "1.2.3", series: str = "1.2.3.4"
    ) -> StoredInstance:
        writer = self.store.begin(declared, SOURCE, 1_700_000_000.0)
        await writer.write(content)
        located = await writer.finish()
        await writer.flush()
        stored = StoredInstance(
            len(self.instances) + 1,
            Uid(study),
            Uid(series),
            declared.sop_instance_uid,
            declared.sop_class_uid,
            declared.transfer_syntax_uid,
            located,
            1,
        )
        self.instances.append(stored)
        return stored

    def url(self, instance: StoredInstance, *more: str) -> str:
        path = f"/studies/{instance.study}/series/{instance.series}/instances/{instance.sop_instance_uid}"
        return "/".join((path, *more))

    def damage(self, instance: StoredInstance, offset: int = 200) -> None:
        """Change a byte of the data set on the disk."""
        path = self.store.path_of(instance.located.file)
        content = bytearray(path.read_bytes())
        content[instance.located.data_set_offset + offset] ^= 0xFF
        path.write_bytes(content)

    async def get(
        self,
        path: str,
        accept: str | None = ANY,
        *,
        method: str = "GET",
        host: str = "pacs:8080",
        on_chunk: Callable[[int], None] | None = None,
        stuck_after: int | None = None,
        gone_after: int | None = None,
    ) -> Answer:
        """Ask. `on_chunk` hears of each chunk taken; the reader takes no more, or goes away, after so many."""
        sent: list[Message] = []
        gone, asked = anyio.Event(), False

        async def receive() -> Message:
            nonlocal asked
            if not asked:
                asked = True
                return {"type": "http.request", "body": b"", "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            sent.append(message)
            chunks = len(sent) - 1
            if chunks and on_chunk is not None:
                on_chunk(chunks)
            if chunks == gone_after:
                gone.set()
            if stuck_after is not None and chunks >= stuck_after:
                await anyio.sleep_forever()
            await anyio.lowlevel.checkpoint()

        raw, _, query = path.partition("?")
        headers = [("host", host)] + ([] if accept is None else [("accept", accept)])
        scope = http_scope(method, f"/dicom-web{raw}", query, headers)
        await self.app(scope, receive, send)
        start, *rest = sent
        return Answer(
            start["status"],
            {name.decode().lower(): value.decode() for name, value in start["headers"]},
            [message["body"] for message in rest if message["body"]],
            bool(rest) and not rest[-1].get("more_body", False),
        )


@asynccontextmanager
async def open_archive(state: Path) -> AsyncIterator[Archive]:
    async with Store.open(state) as store:
        yield Archive(store)


def files(names: Sequence[str]) -> list[bytes]:
    """Read files of pydicom's wheel."""
    folder = Path(pydicom.__file__).parent / "data" / "test_files"
    return [(folder / name).read_bytes() for name in names]
