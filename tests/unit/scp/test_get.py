"""C-GET as SCP through a fake association: sub-operations on the same one, counted as in C-MOVE (PS3.4 §C.4.3)."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scp_retrieve_harness import (
    CONFIG,
    CT,
    EXPLICIT,
    IMPLICIT,
    INSTANCES,
    MR,
    PATIENT_ROOT,
    STUDY_ROOT,
    FakeExchange,
    counters,
    get_of,
    identifier,
    put_non_patient,
    store_response,
    study_of,
)
from search_archive import SOURCE, Archive, data_set, open_archive, put

from router.dicom.envelope import Declared
from router.dicom.non_patient_models import NON_PATIENT_MODELS
from router.dicom.uids import Uid
from router.dimse.commands import C_STORE_RQ
from router.dimse.events import Command, NegotiatedContext, Roles
from router.errors import PeerError
from router.scp import get_content
from router.scp.get import GetService
from router.scp.service import Invocation
from router.search.located import located
from router.search.non_patient import NonPatientIndex
from router.store.files import StoredFile

pytestmark = pytest.mark.anyio

P1_STUDY = "1.2.7.1"
DEFLATED = Uid("1.2.840.10008.1.2.1.99")


@dataclass
class GetBench:
    archive: Archive
    service: GetService

    async def got(self, asked: Invocation, exchange: FakeExchange) -> FakeExchange:
        with anyio.fail_after(30):
            await self.service.perform(asked, exchange)
        return exchange

    async def file_of(self, uid: str) -> Path:
        [(file,)] = await self.archive.journal.read(
            lambda conn: conn.execute("SELECT file FROM instance WHERE sop_instance_uid = ?", (uid,)).fetchall()
        )
        return self.archive.store.path_of(file)


@asynccontextmanager
async def get_bench(state: Path, *, put_all: bool = True, move_pending_s: float = 0.0) -> AsyncIterator[GetBench]:
    async with open_archive(state) as archive:
        if put_all:
            await archive.put(*INSTANCES, in_store=True)
        config = msgspec.structs.replace(
            CONFIG, dicom=msgspec.structs.replace(CONFIG.dicom, move_pending_s=move_pending_s)
        )
        non_patient = NonPatientIndex(archive.journal, archive.store)
        ticks = iter(range(1_000_000))
        yield GetBench(
            archive,
            GetService(
                archive.index,
                non_patient,
                archive.store,
                partial(located, archive.journal),
                lambda: config,
                clock=lambda: float(next(ticks)),
            ),
        )


def contexts(*pairs: tuple[str, str]) -> dict[int, NegotiatedContext]:
    return {
        number: NegotiatedContext(number, Uid(sop_class), Uid(syntax), 0)
        for number, (sop_class, syntax) in enumerate(pairs, start=3)
    }


def taking(*pairs: tuple[str, str], **more: object) -> FakeExchange:
    """An association whose requestor is Storage SCP of these."""
    roles = {Uid(sop_class): Roles(scu=False, scp=True) for sop_class, _ in pairs}
    return FakeExchange(contexts=contexts(*pairs), roles=roles, **more)  # type: ignore[arg-type]


async def test_each_instance_is_stored_on_the_same_association(tmp_path: Path) -> None:
    """§C.4.3.3.1: data sets as stored; no Move Originator."""
    async with get_bench(tmp_path) as bench:
        exchange = await bench.got(get_of(study_of(P1_STUDY)), taking((CT, EXPLICIT)))
        assert (exchange.final.status, counters(exchange.final)) == (0, (None, 3, 0, 0))
        assert exchange.failed_uids == []
        assert [content for _, _, content in exchange.stored] == [data_set(values) for values in INSTANCES[:3]]
        for number, (context_id, request, _) in enumerate(exchange.stored, start=1):
            assert context_id == 3
            assert request == Command(
                C_STORE_RQ,
                affected_sop_class_uid=Uid(CT),
                affected_sop_instance_uid=Uid(f"1.2.9.{number}"),
                priority=0,
                has_data_set=True,
            )


@pytest.mark.parametrize(
    ("data_set", "count"),
    [
        (identifier(level="PATIENT", PatientID="P1"), 4),
        (identifier(level="STUDY", PatientID="P1", StudyInstanceUID="1.2.7.1"), 3),
        (identifier(level="SERIES", PatientID="P1", StudyInstanceUID="1.2.7.1", SeriesInstanceUID="1.2.8.1"), 2),
        (
            identifier(
                level="IMAGE",
                PatientID="P1",
                StudyInstanceUID="1.2.7.1",
                SeriesInstanceUID="1.2.8.1",
                SOPInstanceUID="1.2.9.2",
            ),
            1,
        ),
    ],
)
async def test_each_level_of_patient_root(tmp_path: Path, data_set: bytes, count: int) -> None:
    async with get_bench(tmp_path) as bench:
        exchange = await bench.got(get_of(data_set, model=PATIENT_ROOT), taking((CT, EXPLICIT)))
        assert exchange.final.completed == count


@pytest.mark.parametrize(
    ("statuses", "status"),
    [
        ([0x0000, 0xB000, 0x0000], 0xB000),
        ([0x0000, 0xA700, 0x0000], 0xB000),
        ([0xA900, 0xC000, 0x0110], 0xA702),
        ([0xB007, 0xB000, 0x0107], 0xB000),
        ([0x0000, None, 0x0000], 0xB000),
    ],
)
async def test_the_final_status_follows_from_the_answers(
    tmp_path: Path, statuses: list[int | None], status: int
) -> None:
    async with get_bench(tmp_path) as bench:
        answers = iter(statuses)

        def answer(request: Command, content: bytes) -> Command:
            return msgspec.structs.replace(store_response(0), status=next(answers))

        exchange = await bench.got(get_of(study_of(P1_STUDY)), taking((CT, EXPLICIT), answer=answer))
        failed = [one for one in statuses if one is None or one >= 0xC000 or one in (0xA700, 0xA900, 0x0110)]
        assert exchange.final.status == status
        assert exchange.final.failed == len(failed) == len(exchange.failed_uids)
        assert sum(filter(None, counters(exchange.final))) == 3


async def test_an_instance_without_a_context_in_which_the_requestor_is_scp_has_failed(tmp_path: Path) -> None:
    async with get_bench(tmp_path) as bench:
        await bench.archive.put({**INSTANCES[0], "SOPInstanceUID": "1.2.9.50", "SOPClassUID": MR}, in_store=True)
        exchange = await bench.got(get_of(study_of(P1_STUDY)), taking((CT, EXPLICIT)))
        assert (exchange.final.status, exchange.final.completed) == (0xB000, 3)
        assert exchange.failed_uids == ["1.2.9.50"]

        no_role = FakeExchange(contexts=contexts((CT, EXPLICIT), (MR, EXPLICIT)), roles={Uid(MR): Roles(True, False)})
        await bench.got(get_of(study_of(P1_STUDY)), no_role)
        assert (no_role.final.status, no_role.final.failed, no_role.stored) == (0xA702, 4, [])


@pytest.mark.parametrize("size", [100, 3 * 1024 * 1024])
async def test_a_damaged_file_is_a_failed_sub_operation_and_nothing_of_it_goes_out(tmp_path: Path, size: int) -> None:
    async with get_bench(tmp_path, put_all=False) as bench:
        big = {**INSTANCES[0], "PixelData": b"\1\2" * (size // 2)}
        await bench.archive.put(big, INSTANCES[1], in_store=True)
        path = await bench.file_of("1.2.9.1")
        path.chmod(0o600)
        content = bytearray(path.read_bytes())
        content[-5] ^= 0x10
        path.write_bytes(content)
        exchange = await bench.got(get_of(study_of(P1_STUDY)), taking((CT, EXPLICIT)))
        assert (exchange.final.status, counters(exchange.final)) == (0xB000, (None, 1, 1, 0))
        assert exchange.failed_uids == ["1.2.9.1"]
        assert len(exchange.stored) == 1


async def test_a_large_one_is_streamed(tmp_path: Path) -> None:
    async with get_bench(tmp_path, put_all=False) as bench:
        big = {**INSTANCES[0], "PixelData": b"\1\2" * (2 * 1024 * 1024)}
        await bench.archive.put(big, in_store=True)
        exchange = await bench.got(get_of(study_of(P1_STUDY)), taking((CT, EXPLICIT)))
        [(_, _, content)] = exchange.stored
        assert content == data_set(big)


async def test_a_file_that_goes_while_it_is_sent_ends_the_association(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message that has begun cannot be taken back."""
    async with get_bench(tmp_path, put_all=False) as bench:
        big = {**INSTANCES[0], "PixelData": b"\1\2" * (1024 * 1024)}
        await bench.archive.put(big, in_store=True)
        path, content_of = await bench.file_of("1.2.9.1"), get_content.content_of

        async def checked(*arguments: object) -> object:
            content = await content_of(*arguments)  # type: ignore[arg-type]
            path.unlink()
            return content

        monkeypatch.setattr("router.scp.get.content_of", checked)
        with pytest.raises(PeerError, match="cannot be read any more"):
            await bench.got(get_of(study_of(P1_STUDY)), taking((CT, EXPLICIT)))


def implicit(values: Mapping[str, str]) -> bytes:
    """UIDs and PatientID in Implicit VR Little Endian."""
    tags = {
        "SOPClassUID": 0x00080016,
        "SOPInstanceUID": 0x00080018,
        "PatientID": 0x00100020,
        "StudyInstanceUID": 0x0020000D,
        "SeriesInstanceUID": 0x0020000E,
    }
    parts = []
    for name, tag in tags.items():
        raw = values[name].encode()
        raw += (b" " if name == "PatientID" else b"\0") * (len(raw) % 2)
        parts.append(struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(raw)) + raw)
    return b"".join(parts)


async def put_as(bench: GetBench, content: bytes, syntax: Uid) -> None:
    """Put the first instance into the store in another transfer syntax than the index thinks."""
    declared = Declared(Uid(CT), Uid("1.2.9.1"), syntax)
    writer = bench.archive.store.begin(declared, SOURCE, 1.7e9)
    await writer.write(content)
    stored: StoredFile = await writer.finish()
    await bench.archive.journal.write(partial(put, values=INSTANCES[0], stored=stored))
    await bench.archive.journal.write(
        lambda conn: conn.execute("UPDATE instance SET transfer_syntax_uid = ?", (syntax,)).rowcount
    )


async def test_uncompressed_data_sets_are_converted_to_what_the_requestor_takes(tmp_path: Path) -> None:
    async with get_bench(tmp_path, put_all=False) as bench:
        values = {name: str(value) for name, value in INSTANCES[0].items() if name not in ("Modality", "PatientName")}
        await put_as(bench, implicit(values), IMPLICIT)
        both = await bench.got(get_of(study_of(P1_STUDY)), taking((CT, EXPLICIT), (CT, IMPLICIT)))
        assert both.stored[0][0] == 4, "as it is stored, if that is possible"
        explicit = await bench.got(get_of(study_of(P1_STUDY)), taking((CT, EXPLICIT)))
        assert explicit.final.status == 0
        assert explicit.stored[0][2] == data_set(values)
        neither = await bench.got(get_of(study_of(P1_STUDY)), taking((CT, DEFLATED)))
        assert neither.final.status == 0xA702


async def test_pending_responses_between_sub_operations(tmp_path: Path) -> None:
    async with get_bench(tmp_path, move_pending_s=2.0) as bench:
        exchange = await bench.got(get_of(study_of(P1_STUDY)), taking((CT, EXPLICIT)))
        assert [counters(one) for one in exchange.responses[:-1]]
        assert all(sum(filter(None, counters(one))) == 3 for one in exchange.responses)
        assert exchange.final.remaining is None


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    statuses=st.lists(st.sampled_from([0x0000, 0xB000, 0xA700, 0xC001]), min_size=4, max_size=4),
    cancel_after=st.integers(0, 5),
)
async def test_the_counters_always_add_up(
    tmp_path_factory: pytest.TempPathFactory, statuses: list[int], cancel_after: int
) -> None:
    async with get_bench(tmp_path_factory.mktemp("get"), move_pending_s=1.0) as bench:
        exchange = taking((CT, EXPLICIT))

        def answer(request: Command, content: bytes) -> Command:
            if len(exchange.stored) == cancel_after:
                exchange.cancelled.set()
            return store_response(statuses[len(exchange.stored) - 1])

        exchange.answer = answer
        if cancel_after == 0:
            exchange.cancelled.set()
        await bench.got(get_of(identifier(level="PATIENT", PatientID="P1"), model=PATIENT_ROOT), exchange)
        assert all(sum(filter(None, counters(one))) == 4 for one in exchange.responses)
        assert (exchange.final.status == 0xFE00) == (cancel_after < 4)
        assert exchange.final.failed == len(exchange.failed_uids)
        if cancel_after < 4:
            assert exchange.final.remaining == 4 - cancel_after


async def test_a_lost_association_ends_it(tmp_path: Path) -> None:
    async with get_bench(tmp_path) as bench:
        exchange = taking((CT, EXPLICIT))
        exchange.gone = True
        with pytest.raises(PeerError):
            await bench.got(get_of(study_of(P1_STUDY)), exchange)


async def test_what_is_refused_and_what_matches_nothing(tmp_path: Path) -> None:
    """As C-MOVE, without A801 (Table C.4-3)."""
    async with get_bench(tmp_path) as bench:
        refused = await bench.got(get_of(identifier(level="STUDY")), taking((CT, EXPLICIT)))
        assert (refused.final.status, refused.final.offending_elements) == (0xA900, (0x0020000D,))
        nothing = await bench.got(get_of(study_of("1.2.3.404")), taking((CT, EXPLICIT)))
        assert (nothing.final.status, counters(nothing.final)) == (0, (None, 0, 0, 0))
        assert bench.service.grant(STUDY_ROOT.get, b"\x01\x01") == b"\x01\x00"
        assert bench.service.roles(STUDY_ROOT.get, Roles(scu=True, scp=True)) == Roles(scu=True, scp=False)


async def test_a_non_patient_model(tmp_path: Path) -> None:
    hanging, sop_class = NON_PATIENT_MODELS[0], "1.2.840.10008.5.1.4.38.1"
    async with get_bench(tmp_path, put_all=False) as bench:
        await bench.archive.journal.write(
            partial(put_non_patient, npi_name="hanging-protocols", sop_class=sop_class, uid="1.2.9.71")
        )
        exchange = await bench.got(
            get_of(identifier(SOPInstanceUID="1.2.9.71"), model=hanging), taking((sop_class, EXPLICIT))
        )
        assert exchange.failed_uids == ["1.2.9.71"], "there is no file behind it here"
