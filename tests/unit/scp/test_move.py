"""C-MOVE as SCP through a fake association: what is refused, what is sent, what its SCU is told (PS3.4 §C.4.2)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scp_retrieve_harness import (
    EXPLICIT,
    INSTANCES,
    PATIENT_ROOT,
    STUDY_ROOT,
    FakeExchange,
    MoveBench,
    counters,
    identifier,
    move_bench,
    move_of,
    put_non_patient,
    study_of,
)

from router.dicom.identifier import read_identifier
from router.dicom.non_patient_models import NON_PATIENT_MODELS
from router.dicom.query_retrieve import InformationModel
from router.dicom.uids import Uid
from router.dimse.events import Command, Roles
from router.errors import PeerError
from router.scp import retrieve_search
from router.scp.move import principal_of_aet
from router.scp.service import Invocation
from router.scp.sub_operations import Counters, failed_list, final
from router.sending.requests import OPERATOR, UnknownRequest

pytestmark = pytest.mark.anyio

P1_STUDY = "1.2.7.1"
"""Instances 1.2.9.1, 1.2.9.2 (series 1.2.8.1) and 1.2.9.3 (series 1.2.8.2)."""


async def moved(bench: MoveBench, asked: Invocation, exchange: FakeExchange | None = None) -> FakeExchange:
    """Perform a C-MOVE of which nothing is to be sent."""
    exchange = exchange or FakeExchange()
    with anyio.fail_after(30):
        await bench.service.perform(asked, exchange)
    return exchange


async def test_req_110_an_unknown_move_destination_is_a801_without_counters(tmp_path: Path) -> None:
    """REQ-110, REQ-113."""
    async with move_bench(tmp_path) as bench:
        exchange = await moved(bench, move_of(study_of(P1_STUDY), destination="NOBODY"))
        assert exchange.final.status == 0xA801
        assert counters(exchange.final) == (None, None, None, None)
        assert exchange.final.offending_elements == (0x00000600,)
        assert "NOBODY" in exchange.final.error_comment
        assert await bench.uids_asked_for() == []


async def test_req_127_a_destination_of_any_kind_is_known_by_its_ae_title(tmp_path: Path) -> None:
    """REQ-127: only an AE title; "cloud" is a STOW-RS destination."""
    async with move_bench(tmp_path) as bench, anyio.create_task_group() as tasks:
        exchange = FakeExchange()
        tasks.start_soon(bench.service.perform, move_of(study_of(P1_STUDY), destination="CLOUD"), exchange)
        await bench.until_asked(3)
        assert await bench.rows("SELECT DISTINCT destination FROM sub_operation") == [("cloud",)]
        await bench.end("completed", 1, 2, 3)


@pytest.mark.parametrize("data_set", [b"", b"\x08\x00rubbish", identifier(StudyInstanceUID=P1_STUDY)])
async def test_req_111_a_bad_identifier_is_a900_with_words(tmp_path: Path, data_set: bytes) -> None:
    """REQ-111, REQ-113."""
    async with move_bench(tmp_path) as bench:
        exchange = await moved(bench, move_of(data_set))
        assert exchange.final.status == 0xA900
        assert exchange.final.error_comment
        assert counters(exchange.final) == (None, None, None, None)
        assert await bench.uids_asked_for() == []


async def test_req_111_the_offending_element_is_named(tmp_path: Path) -> None:
    async with move_bench(tmp_path) as bench:
        exchange = await moved(bench, move_of(identifier(StudyInstanceUID=P1_STUDY)))
        assert exchange.final.offending_elements == (0x00080052,)


async def test_nothing_matches_success_with_zeros(tmp_path: Path) -> None:
    async with move_bench(tmp_path) as bench:
        exchange = await moved(bench, move_of(study_of("1.2.3.404")))
        assert (exchange.final.status, counters(exchange.final)) == (0, (None, 0, 0, 0))
        assert exchange.failed_uids == []
        assert bench.woken == []


async def test_more_than_can_be_counted_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """O-19: A701, Table C.4-2."""
    monkeypatch.setattr(retrieve_search, "MOST_INSTANCES", 2)
    async with move_bench(tmp_path) as bench:
        exchange = await moved(bench, move_of(study_of(P1_STUDY)))
        assert exchange.final.status == 0xA701
        assert "at most 2" in exchange.final.error_comment
        assert await bench.uids_asked_for() == []


@pytest.mark.parametrize(
    ("model", "data_set", "uids"),
    [
        (PATIENT_ROOT, identifier(level="PATIENT", PatientID="P1"), ["1", "2", "3", "4"]),
        (PATIENT_ROOT, identifier(level="STUDY", PatientID="P1", StudyInstanceUID="1.2.7.2"), ["4"]),
        (PATIENT_ROOT, identifier(level="STUDY", PatientID="P1", StudyInstanceUID=["1.2.7.3", "1.2.7.2"]), ["4"]),
        (
            PATIENT_ROOT,
            identifier(level="SERIES", PatientID="P1", StudyInstanceUID="1.2.7.1", SeriesInstanceUID="1.2.8.1"),
            ["1", "2"],
        ),
        (
            PATIENT_ROOT,
            identifier(level="SERIES", PatientID="P2", StudyInstanceUID="1.2.7.1", SeriesInstanceUID="1.2.8.1"),
            [],
        ),
        (STUDY_ROOT, study_of("1.2.7.1"), ["1", "2", "3"]),
        (STUDY_ROOT, study_of("1.2.7.2", "1.2.7.3"), ["4", "5"]),
        (
            STUDY_ROOT,
            identifier(level="SERIES", StudyInstanceUID="1.2.7.1", SeriesInstanceUID=["1.2.8.1", "1.2.8.2", "1.2.8.3"]),
            ["1", "2", "3"],
        ),
        (
            STUDY_ROOT,
            identifier(
                level="IMAGE",
                StudyInstanceUID="1.2.7.1",
                SeriesInstanceUID="1.2.8.1",
                SOPInstanceUID=["1.2.9.2", "1.2.9.3", "1.2.9.404"],
            ),
            ["2"],
        ),
    ],
)
async def test_req_116_one_sub_operation_for_each_instance_of_what_the_keys_name(
    tmp_path: Path, model: InformationModel, data_set: bytes, uids: list[str]
) -> None:
    """REQ-116, REQ-126: of both models, at each level."""
    async with move_bench(tmp_path) as bench, anyio.create_task_group() as tasks:
        exchange = FakeExchange()
        tasks.start_soon(bench.service.perform, move_of(data_set, model=model), exchange)
        await bench.until_asked(len(uids))
        assert await bench.uids_asked_for() == [f"1.2.9.{number}" for number in uids]
        await bench.end("completed", *range(1, len(uids) + 1))
    assert (exchange.final.status, exchange.final.completed) == (0, len(uids))


async def test_req_121_of_two_contents_under_one_uid_only_the_newer_is_sent(tmp_path: Path) -> None:
    """REQ-121: alternate encodings are not managed; of what came under one UID the newest is sent (D13)."""
    async with move_bench(tmp_path) as bench, anyio.create_task_group() as tasks:
        (newer,) = await bench.archive.put({**INSTANCES[0], "PatientName": "Doe^Janet"})
        exchange = FakeExchange()
        tasks.start_soon(bench.service.perform, move_of(study_of(P1_STUDY)), exchange)
        await bench.until_asked(3)
        rows = await bench.rows("SELECT instance_id FROM sub_operation WHERE sop_instance_uid = '1.2.9.1'")
        assert rows == [(newer,)]
        await bench.end("completed", 1, 2, 3)
    assert exchange.final.completed == 3


async def test_req_126_a_non_patient_model_gives_its_own_class_only(tmp_path: Path) -> None:
    """REQ-126, dicom-facts C.3."""
    generic = next(model for model in NON_PATIENT_MODELS if model.name == "Generic Implant Template")
    async with move_bench(tmp_path, put=False) as bench, anyio.create_task_group() as tasks:
        for sop_class, uid in (("1.2.840.10008.5.1.4.43.1", "1.2.9.71"), ("1.2.840.10008.5.1.4.44.1", "1.2.9.72")):
            put = partial(put_non_patient, npi_name="implant-templates", sop_class=sop_class, uid=uid)
            await bench.archive.journal.write(put)
        exchange = FakeExchange()
        asked = move_of(identifier(SOPInstanceUID=["1.2.9.71", "1.2.9.72"]), model=generic)
        tasks.start_soon(bench.service.perform, asked, exchange)
        await bench.until_asked(1)
        assert await bench.uids_asked_for() == ["1.2.9.71"]
        assert await bench.rows("SELECT resource FROM send_request") == [("implant-templates",)]
        await bench.end("completed", 1)
    assert exchange.final.status == 0


OUTCOMES = [
    ("ccc", 0x0000),
    ("ccw", 0xB000),
    ("www", 0xB000),
    ("ccf", 0xB000),
    ("wwf", 0xB000),
    ("cwf", 0xB000),
    ("fff", 0xA702),
]
STATES = {"c": "completed", "w": "warning", "f": "failed"}


@pytest.mark.parametrize(("outcomes", "status"), OUTCOMES)
async def test_req_119_the_final_status_follows_from_the_counters(tmp_path: Path, outcomes: str, status: int) -> None:
    """REQ-112, REQ-113, REQ-114, REQ-115, REQ-118, REQ-119: no Remaining at the end; the list only if some failed."""
    async with move_bench(tmp_path) as bench, anyio.create_task_group() as tasks:
        exchange = FakeExchange()
        tasks.start_soon(bench.service.perform, move_of(study_of(P1_STUDY)), exchange)
        await bench.until_asked(3)
        for number, letter in enumerate(outcomes, start=1):
            await bench.end(STATES[letter], number)
    assert [one.status for one in exchange.responses] == [status], "move_pending_s = 0: none is Pending"
    assert counters(exchange.final) == (None, outcomes.count("c"), outcomes.count("f"), outcomes.count("w"))
    assert exchange.failed_uids == [f"1.2.9.{n}" for n, letter in enumerate(outcomes, start=1) if letter == "f"]


async def test_req_118_pending_responses_show_how_far_it_is(tmp_path: Path) -> None:
    """REQ-114, REQ-115, REQ-118, REQ-137: all four counters; no data set, though something has failed already."""
    async with move_bench(tmp_path, move_pending_s=0.02) as bench, anyio.create_task_group() as tasks:
        exchange = FakeExchange()
        tasks.start_soon(bench.service.perform, move_of(study_of(P1_STUDY)), exchange)
        await bench.until_asked(3)
        await bench.end("failed", 2)
        with anyio.fail_after(30):
            while not exchange.responses or counters(exchange.responses[-1]) != (2, 0, 1, 0):  # noqa: ASYNC110
                await anyio.sleep(0.005)
        assert exchange.responses[-1].status == 0xFF00
        await bench.end("warning", 3)
        await bench.end("completed", 1)
    assert counters(exchange.final) == (None, 1, 1, 1)
    assert exchange.failed_uids == ["1.2.9.2"]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.permutations([("c", 1), ("w", 2), ("f", 3), ("c", 4)]), cancel_after=st.integers(0, 5))
async def test_req_130_131_the_counters_always_add_up(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]], cancel_after: int
) -> None:
    """REQ-130, REQ-131: in every response, in whatever order things end, and after a cancel."""
    async with move_bench(tmp_path_factory.mktemp("move"), move_pending_s=0.002) as bench:
        exchange = FakeExchange()
        async with anyio.create_task_group() as tasks:
            asked = move_of(identifier(level="PATIENT", PatientID="P1"), model=PATIENT_ROOT)
            tasks.start_soon(bench.service.perform, asked, exchange)
            await bench.until_asked(4)
            for done, (letter, number) in enumerate(steps):
                if done == cancel_after:
                    exchange.cancelled.set()
                    break
                await bench.end(STATES[letter], number)
        assert all(sum(filter(None, counters(one))) == 4 for one in exchange.responses)
        assert exchange.final.failed == len(exchange.failed_uids)
        assert (exchange.final.status == 0xFE00) == (cancel_after < 4)


async def test_req_120_a_cancel_ends_what_is_not_begun(tmp_path: Path) -> None:
    """REQ-120, REQ-112: what is in flight ends by itself; the list names what failed, not what was not wanted."""
    async with move_bench(tmp_path) as bench, anyio.create_task_group() as tasks:
        exchange = FakeExchange()
        asked = move_of(identifier(level="PATIENT", PatientID="P1"), model=PATIENT_ROOT)
        tasks.start_soon(bench.service.perform, asked, exchange)
        await bench.until_asked(4)
        await bench.end("failed", 1, reason="0122H")
        await bench.begin(2)
        exchange.cancelled.set()
        with anyio.fail_after(30):
            while (await bench.rows("SELECT count(*) FROM sub_operation WHERE state = 'failed'")) != [(3,)]:  # noqa: ASYNC110
                await anyio.sleep(0.005)
        assert bench.let_go[:1] == ["archive"], "the lane gives back what it claimed and has not begun"
        await bench.end("completed", 2)
    assert (exchange.final.status, counters(exchange.final)) == (0xFE00, (2, 1, 1, 0))
    assert exchange.failed_uids == ["1.2.9.1"]


async def test_a_cancel_that_comes_too_late_changes_nothing(tmp_path: Path) -> None:
    async with move_bench(tmp_path) as bench, anyio.create_task_group() as tasks:
        exchange = FakeExchange()
        tasks.start_soon(bench.service.perform, move_of(study_of(P1_STUDY)), exchange)
        await bench.until_asked(3)
        await bench.begin(1, 2, 3)
        exchange.cancelled.set()
        await bench.end("completed", 1, 2, 3)
    assert (exchange.final.status, counters(exchange.final)) == (0, (None, 3, 0, 0))


async def test_req_122_the_send_goes_on_when_the_association_is_lost(tmp_path: Path) -> None:
    """REQ-122: nothing is cancelled, no response is made."""
    async with move_bench(tmp_path) as bench:
        exchange = FakeExchange()

        async def perform() -> None:
            with pytest.raises(PeerError):
                await bench.service.perform(move_of(study_of(P1_STUDY)), exchange)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(perform)
            await bench.until_asked(3)
            exchange.lose()
        assert exchange.responses == []
        assert await bench.rows("SELECT state, count(*) FROM sub_operation GROUP BY state") == [("remaining", 3)]
        assert await bench.rows("SELECT cancelled FROM send_request") == [(0,)]


async def test_the_request_is_a_send_request_with_its_originator(tmp_path: Path) -> None:
    """REQ-109: priority; Move Originator is who invoked the C-MOVE. The operator sees it, no caller over the web."""
    async with move_bench(tmp_path) as bench, anyio.create_task_group() as tasks:
        exchange = FakeExchange()
        tasks.start_soon(bench.service.perform, move_of(study_of(P1_STUDY), priority=2), exchange)
        await bench.until_asked(3)
        columns = (
            "origin, requester, destination, source, resource, query, originator_aet, originator_message_id, priority"
        )
        assert await bench.rows(f"SELECT {columns} FROM send_request") == [
            (
                *("c-move", "aet:VIEWER", "archive", "C-MOVE of VIEWER at 192.0.2.9", "studies"),
                *("StudyInstanceUID=1.2.7.1", "VIEWER", 7, 2),
            )
        ]
        [(uid,)] = await bench.rows("SELECT transaction_uid FROM send_request")
        assert (await bench.requests.progress(Uid(uid), "studies", OPERATOR)).remaining == 3
        with pytest.raises(UnknownRequest):
            await bench.requests.progress(Uid(uid), "studies", "192.0.2.9")
        assert bench.woken == ["archive"]
        await bench.end("completed", 1, 2, 3)
    assert principal_of_aet(Uid("X")) == "aet:X"  # type: ignore[arg-type]


async def test_req_123_relational_retrieval_is_granted_and_conversion_never(tmp_path: Path) -> None:
    """REQ-123: bytes 1 and 2 of Table C.5-3; never more than was offered."""
    async with move_bench(tmp_path) as bench:
        service, study_root = bench.service, STUDY_ROOT.move
        offered = {b"": b"", b"\x01": b"\x01", b"\x00": b"\x00", b"\x01\x01": b"\x01\x00", b"\x00\x01\x01": b"\x00\x00"}
        assert {one: service.grant(study_root, one) for one in offered} == offered
        assert service.grant(NON_PATIENT_MODELS[0].move, b"\x01") == b""
        assert service.roles(study_root, Roles(scu=True, scp=True)) == Roles(scu=True, scp=False)
        by_series = identifier(level="SERIES", SeriesInstanceUID="1.2.8.404")
        assert (await moved(bench, move_of(by_series))).final.status == 0xA900
        assert (await moved(bench, move_of(by_series, granted=b"\x01"))).final.status == 0


def test_a_list_too_long_for_an_explicit_vr_of_uids_is_written_all_the_same() -> None:
    """PS3.5 §6.2.2: VR UN."""
    uids = [Uid(f"1.2.840.10008.1.2.3.4.5.6.7.8.9.{number}") for number in range(10_000)]
    for syntax in (EXPLICIT, Uid("1.2.840.10008.1.2")):
        data_set = read_identifier(failed_list(uids, syntax), syntax)
        assert list(data_set) == ["00080058"]


def test_the_final_response_has_no_remaining() -> None:
    command = Command(0x0021, message_id=1)
    assert final(command, Counters(0, completed=1)).remaining is None
