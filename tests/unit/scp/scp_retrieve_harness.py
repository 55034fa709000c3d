"""An archive with two patients behind the C-MOVE and C-GET services, and an association that obeys the test."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import msgspec
from search_archive import CT, EXPLICIT, SOURCE, Archive, instance, open_archive

from router.config.model import Config, DicomConfig, DimseDestination, SendingConfig, StowDestination
from router.dicom.attributes import attribute_path
from router.dicom.envelope import Declared
from router.dicom.identifier import read_identifier, write_identifier
from router.dicom.json_model import element
from router.dicom.non_patient_models import NonPatientModel
from router.dicom.query_retrieve import PATIENT_ROOT, STUDY_ROOT, InformationModel
from router.dicom.uids import AETitle, Uid
from router.dimse.commands import C_GET_RQ, C_MOVE_RQ, C_STORE_RSP
from router.dimse.events import Command, NegotiatedContext, Roles
from router.errors import PeerError
from router.journal.acceptance import accept
from router.journal.connection import WritingConnection
from router.journal.records import Acceptance, InstanceRow, NonPatientRow
from router.scp.move import MoveService
from router.scp.service import Invocation
from router.search.non_patient import NonPatientIndex
from router.sending.requests import SendRequests

MR = "1.2.840.10008.5.1.4.1.1.4"
IMPLICIT = Uid("1.2.840.10008.1.2")

# patient, study, series, instance: two studies of P1, one of P2
INSTANCES = tuple(
    instance(f"1.2.7.{study}", f"1.2.8.{series}", f"1.2.9.{number}", PatientID=patient, PatientName="Doe^Jane")
    for number, (patient, study, series) in enumerate(
        [("P1", 1, 1), ("P1", 1, 1), ("P1", 1, 2), ("P1", 2, 3), ("P2", 3, 4)], start=1
    )
)


@dataclass
class FakeExchange:
    """Keeps responses and sub-operations. `answer` makes the response to a C-STORE-RQ; `gone` ends the association."""

    answer: Callable[[Command, bytes], Command] = lambda request, content: store_response(0)
    contexts: Mapping[int, NegotiatedContext] = field(default_factory=dict)
    roles: Mapping[Uid, Roles] = field(default_factory=dict)
    on_response: Callable[[Command], None] = lambda response: None
    gone: bool = False
    cancelled: anyio.Event = field(default_factory=anyio.Event)
    responses: list[Command] = field(default_factory=list)
    data_sets: list[bytes] = field(default_factory=list)
    stored: list[tuple[int, Command, bytes]] = field(default_factory=list)

    async def respond(self, response: Command, data_set: bytes = b"") -> None:
        if self.gone:
            raise PeerError("connection lost")
        assert response.field & 0x8000
        self.responses.append(response)
        self.data_sets.append(data_set)
        self.on_response(response)

    async def invoke(self, context_id: int, request: Command, content: bytes | AsyncIterable[bytes] = b"") -> Command:
        if self.gone:
            raise PeerError("connection lost")
        if not isinstance(content, bytes):
            chunks = [chunk async for chunk in content]
            assert all(len(chunk) % 2 == 0 for chunk in chunks[:-1])
            content = b"".join(chunks)
        self.stored.append((context_id, request, content))
        return self.answer(request, content)

    def lose(self) -> None:
        """The peer goes."""
        self.gone = True
        self.cancelled.set()

    @property
    def final(self) -> Command:
        """The only response that is not Pending, and the last."""
        *before, last = self.responses
        assert all(one.status == 0xFF00 for one in before)
        assert last.status != 0xFF00
        return last

    @property
    def failed_uids(self) -> list[str]:
        """What the data set of the final response says; [] when it has none."""
        assert not any(self.data_sets[:-1])
        if not self.data_sets[-1]:
            return []
        data_set = read_identifier(self.data_sets[-1], EXPLICIT, max_bytes=10**8)
        assert list(data_set) == ["00080058"], "nothing else stands in it, no Specific Character Set either"
        return list(data_set["00080058"]["Value"])


def store_response(status: int) -> Command:
    return Command(C_STORE_RSP, message_id_responded_to=1, status=status)


def counters(response: Command) -> tuple[int | None, int | None, int | None, int | None]:
    """Remaining, completed, failed, warning."""
    return response.remaining, response.completed, response.failed, response.warning


def identifier(**keys: str | list[str]) -> bytes:
    """Write an identifier; `level` is Query/Retrieve Level."""
    named = {("QueryRetrieveLevel" if name == "level" else name): value for name, value in keys.items()}
    data_set = {}
    for name, value in named.items():
        (tag,) = attribute_path(name)
        data_set[f"{tag:08X}"] = element(tag, value if isinstance(value, list) else [value])
    return write_identifier(dict(sorted(data_set.items())), EXPLICIT)


def study_of(*uids: str) -> bytes:
    return identifier(level="STUDY", StudyInstanceUID=list(uids))


def move_of(
    data_set: bytes,
    *,
    model: InformationModel | NonPatientModel = STUDY_ROOT,
    destination: str = "ARCHIVE",
    granted: bytes = b"",
    priority: int = 0,
) -> Invocation:
    command = Command(
        C_MOVE_RQ,
        message_id=7,
        affected_sop_class_uid=model.move,
        priority=priority,
        has_data_set=True,
        move_destination=AETitle(destination),
    )
    return invocation(model.move, command, data_set, granted)


def get_of(
    data_set: bytes, *, model: InformationModel | NonPatientModel = STUDY_ROOT, granted: bytes = b""
) -> Invocation:
    command = Command(C_GET_RQ, message_id=7, affected_sop_class_uid=model.get, priority=0, has_data_set=True)
    return invocation(model.get, command, data_set, granted)


def invocation(sop_class: Uid, command: Command, data_set: bytes, granted: bytes) -> Invocation:
    context = NegotiatedContext(1, sop_class, EXPLICIT, 0)
    return Invocation(context, command, data_set, AETitle("VIEWER"), AETitle("SENDRS"), "192.0.2.9", granted)


CONFIG = Config(
    file=Path("router.toml"),
    dicom=DicomConfig(move_pending_s=0.0),
    sending=SendingConfig(),
    destinations={
        "archive": DimseDestination(name="archive", ae_title="ARCHIVE", host="192.0.2.1"),
        "cloud": StowDestination(name="cloud", url="https://cloud.example/dicom-web"),
    },
)


@dataclass
class MoveBench:
    """C-MOVE on an archive, with a lane that the test plays."""

    archive: Archive
    service: MoveService
    requests: SendRequests
    config: Config
    woken: list[str]
    let_go: list[str]

    async def rows(self, sql: str) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = await self.archive.journal.read(lambda conn: conn.execute(sql).fetchall())
        return found

    async def uids_asked_for(self) -> list[str]:
        return [uid for (uid,) in await self.rows("SELECT sop_instance_uid FROM sub_operation ORDER BY id")]

    async def end(self, state: str, *numbers: int, reason: str = "") -> None:
        """End sub-operations as a lane does, by row id."""
        await self._write(
            "UPDATE sub_operation SET state = ?, in_flight = 0, ended_at = 1.8e9, reason = ? WHERE id = ?",
            [(state, reason, number) for number in numbers],
        )

    async def begin(self, *numbers: int) -> None:
        """Claim them, as a lane does."""
        await self._write(
            "UPDATE sub_operation SET in_flight = 1, attempts = 1 WHERE id = ?", [(one,) for one in numbers]
        )

    async def until_asked(self, count: int) -> None:
        """Wait until a C-MOVE has made so many sub-operations."""
        with anyio.fail_after(30):
            while (await self.rows("SELECT count(*) FROM sub_operation")) != [(count,)]:  # noqa: ASYNC110
                await anyio.sleep(0.005)

    async def _write(self, sql: str, values: Iterable[tuple[object, ...]]) -> None:
        await self.archive.journal.write(partial(_many, sql=sql, values=list(values)))


def put_non_patient(conn: WritingConnection, npi_name: str, sop_class: str, uid: str) -> int:
    """Journal a non-patient instance that has nothing but its UIDs; gives its row id."""
    keys = {"00080016": {"vr": "UI", "Value": [sop_class]}, "00080018": {"vr": "UI", "Value": [uid]}}
    declared = Declared(Uid(sop_class), Uid(uid), EXPLICIT)
    row = InstanceRow(declared, SOURCE, f"1/{uid}.dcm", 400, 10, uid.encode().rjust(32), 1.7e9)
    non_patient = NonPatientRow(npi_name, msgspec.json.encode(keys).decode())
    return accept(conn, Acceptance(None, None, row, non_patient=non_patient)).instance_id


def _many(conn: Any, sql: str, values: list[tuple[object, ...]]) -> None:
    conn.executemany(sql, values)


@asynccontextmanager
async def move_bench(state: Path, *, put: bool = True, **dicom: Any) -> AsyncIterator[MoveBench]:
    async with open_archive(state) as archive:
        if put:
            await archive.put(*INSTANCES)
        config = msgspec.structs.replace(CONFIG, dicom=msgspec.structs.replace(CONFIG.dicom, **dicom))
        woken, let_go = list[str](), list[str]()
        requests = SendRequests(archive.journal, woken.extend, lambda: config, let_go=let_go.append)
        non_patient = NonPatientIndex(archive.journal, archive.store)
        service = MoveService(archive.index, non_patient, requests, lambda: config)
        yield MoveBench(archive, service, requests, config, woken, let_go)


__all__ = [
    "CT",
    "EXPLICIT",
    "IMPLICIT",
    "INSTANCES",
    "MR",
    "PATIENT_ROOT",
    "STUDY_ROOT",
    "FakeExchange",
    "MoveBench",
    "counters",
    "get_of",
    "identifier",
    "move_bench",
    "move_of",
    "put_non_patient",
    "store_response",
    "study_of",
]
