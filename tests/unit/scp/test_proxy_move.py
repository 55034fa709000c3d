"""The Proxy Option (PS3.4 §C.4.2.3.1.2): what the SEND-RS server is asked, and what its answers become."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest

from router.config.model import Destination, DimseDestination, SendRsDestination, StowDestination
from router.dicom.attributes import attribute_path
from router.dicom.identifier import read_identifier, write_identifier
from router.dicom.json_model import JsonDataSet, element
from router.dicom.query_retrieve import PATIENT_ROOT, STUDY_ROOT
from router.dicom.sub_operation_status import PENDING
from router.dicom.uids import AETitle, Uid
from router.dicomweb.send_answer import Answer, Kind
from router.dicomweb.send_client import Ask, End, How, SendTransaction
from router.dicomweb.send_question import SendQuestion
from router.dicomweb.send_response import SendResult
from router.dimse.commands import C_MOVE_RQ
from router.dimse.events import Command, NegotiatedContext
from router.errors import Misconfigured, PeerError, Transient
from router.scp.proxy_move import (
    UPSTREAM_FORGOT,
    UPSTREAM_REFUSED,
    UPSTREAM_UNFINISHED,
    ProxyMove,
    SendClient,
)
from router.scp.service import Exchange, Invocation

pytestmark = pytest.mark.anyio

EXPLICIT = Uid("1.2.840.10008.1.2.1")
HANGING_PROTOCOL_MOVE = Uid("1.2.840.10008.5.1.4.38.3")
DESTINATIONS: Mapping[str, Destination] = {
    "store": DimseDestination(name="store", ae_title="STORE", host="10.0.0.9", port=11112),
    "aliased": DimseDestination(name="aliased", ae_title="ALIASED", host="h", aliases=["https://alias.example/x"]),
    "cloud": StowDestination(name="cloud", url="https://cloud.example/stow"),
    "relay": SendRsDestination(name="relay", url="https://relay.example/d", target="https://target.example/d"),
}
STUDY = {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "1.2"}
UIDS = (Uid("1.9.1"), Uid("1.9.2"))


@dataclass
class FakeExchange:
    """Keeps the responses. `gone` after so many: the peer has left."""

    gone_after: int = 1000
    responses: list[tuple[Command, bytes]] = field(default_factory=list)
    contexts: Mapping[int, NegotiatedContext] = field(default_factory=dict)
    roles: Mapping[Uid, Any] = field(default_factory=dict)
    cancelled: anyio.Event = field(default_factory=anyio.Event)

    async def respond(self, response: Command, data_set: bytes = b"") -> None:
        if len(self.responses) >= self.gone_after:
            raise PeerError("connection lost")
        self.responses.append((response, data_set))

    async def invoke(self, context_id: int, request: Command, content: Any = b"") -> Command:
        raise AssertionError("no request of ours goes to the peer")

    @property
    def last(self) -> Command:
        return self.responses[-1][0]

    @property
    def statuses(self) -> list[int | None]:
        return [response.status for response, _ in self.responses]

    def counters(self, at: int = -1) -> tuple[int | None, ...]:
        """Remaining, completed, failed, warning."""
        response = self.responses[at][0]
        return response.remaining, response.completed, response.failed, response.warning

    def failed_uids(self) -> list[str]:
        data_set = self.responses[-1][1]
        return list(read_identifier(data_set, EXPLICIT)["00080058"]["Value"]) if data_set else []


@dataclass
class FakeServer:
    """A user agent that sees what a script says: modules while it is pending, then an end, or for ever nothing."""

    modules: Sequence[SendResult] = ()
    end: Callable[[Uid], End] | Exception | None = None
    checked: SendResult | Exception | None = None
    question: SendQuestion | None = None
    checks: int = 0
    closed: bool = False

    async def follow(
        self,
        question: SendQuestion,
        uid: Uid,
        *,
        timeout_s: float,
        another_uid: Callable[[], Uid] | None = None,
        watch: Callable[[SendTransaction, Ask], None] | None = None,
    ) -> End:
        self.question = question
        transaction = SendTransaction(question, uid)
        for module in self.modules:
            transaction.result = module
            assert watch is not None
            watch(transaction, Ask("GET", "", {}))
            await anyio.wait_all_tasks_blocked()
        if self.end is None:
            await anyio.sleep_forever()
        if isinstance(self.end, Exception):
            raise self.end
        assert self.end is not None
        return self.end(uid)

    async def check(self, question: SendQuestion, uid: Uid) -> Answer:
        self.checks += 1
        if isinstance(self.checked, Exception):
            raise self.checked
        return Answer(Kind.PENDING if self.checked else Kind.UNKNOWN, "", self.checked)

    async def aclose(self) -> None:
        self.closed = True


def answered(status: int, completed: int, failed: int, warning: int, *uids: Uid) -> Callable[[Uid], End]:
    return ended(How.ANSWERED, result=SendResult(status, None, completed, failed, warning, uids))


def ended(how: How, status: int | None = None, **more: Any) -> Callable[[Uid], End]:
    return lambda uid: End(how, uid, "the server's words", status, **more)


def invocation(keys: Mapping[str, str], *, to: str = "STORE", sop_class: Uid = STUDY_ROOT.move) -> Invocation:
    data_set: JsonDataSet = {}
    for name, value in keys.items():
        [tag] = attribute_path(name)
        data_set[f"{tag:08X}"] = element(tag, value.split("\\"))
    return Invocation(
        context=NegotiatedContext(1, sop_class, EXPLICIT, 0),
        command=Command(C_MOVE_RQ, message_id=7, affected_sop_class_uid=sop_class, move_destination=AETitle(to)),
        data_set=write_identifier(data_set, EXPLICIT),
        calling_aet=AETitle("ME"),
        called_aet=AETitle("FAR"),
        peer_address="10.0.0.1",
    )


def proxy(server: FakeServer, pending_s: float = 1.0) -> ProxyMove:
    def client() -> SendClient:
        return server

    return ProxyMove("far", client, lambda: DESTINATIONS, follow_s=60.0, pending_s=lambda: pending_s)


async def perform(server: FakeServer, asked: Invocation, exchange: FakeExchange | None = None) -> FakeExchange:
    exchange = exchange or FakeExchange()
    given: Exchange = exchange
    with anyio.fail_after(10):
        await proxy(server).perform(asked, given)
    return exchange


@pytest.mark.parametrize(
    ("sop_class", "keys", "resource", "match"),
    [
        (STUDY_ROOT.move, STUDY, "studies", {"StudyInstanceUID": ("1.2",)}),
        (
            STUDY_ROOT.move,
            {**STUDY, "StudyInstanceUID": "1.2\\1.3"},
            "studies",
            {"StudyInstanceUID": ("1.2", "1.3")},
        ),
        (
            STUDY_ROOT.move,
            {**STUDY, "QueryRetrieveLevel": "SERIES", "SeriesInstanceUID": "1.2.1"},
            "studies/1.2/series",
            {"SeriesInstanceUID": ("1.2.1",)},
        ),
        (
            STUDY_ROOT.move,
            {
                "QueryRetrieveLevel": "IMAGE",
                "StudyInstanceUID": "1.2",
                "SeriesInstanceUID": "1.3",
                "SOPInstanceUID": "1.9",
            },
            "studies/1.2/series/1.3/instances",
            {"SOPInstanceUID": ("1.9",)},
        ),
        (
            PATIENT_ROOT.move,
            {"QueryRetrieveLevel": "PATIENT", "PatientID": "4,7&8"},
            "studies",
            {"PatientID": ("4,7&8",)},
        ),
        (
            HANGING_PROTOCOL_MOVE,
            {"SOPInstanceUID": "1.9"},
            "hanging-protocols",
            {"SOPClassUID": ("1.2.840.10008.5.1.4.38.1",), "SOPInstanceUID": ("1.9",)},
        ),
    ],
)
async def test_req_142_143_each_level_and_model_becomes_its_resource(
    sop_class: Uid, keys: Mapping[str, str], resource: str, match: Mapping[str, tuple[str, ...]]
) -> None:
    """REQ-142, REQ-143: only an AE title comes in, only a URL goes out (REQ-144)."""
    server = FakeServer(end=answered(0x0000, 1, 0, 0))
    exchange = await perform(server, invocation(keys, sop_class=sop_class))
    assert server.question is not None
    assert (server.question.resource, dict(server.question.match)) == (resource, match)
    assert server.question.destination == "dicom://10.0.0.9:11112/STORE"
    assert exchange.statuses == [0x0000]
    assert server.closed


@pytest.mark.parametrize(
    ("title", "url"),
    [
        ("ALIASED", "https://alias.example/x"),
        ("CLOUD", "https://cloud.example/stow"),
        ("RELAY", "https://target.example/d"),
    ],
)
async def test_req_147_the_url_is_that_of_the_registered_destination(title: str, url: str) -> None:
    server = FakeServer(end=answered(0x0000, 1, 0, 0))
    await perform(server, invocation(STUDY, to=title))
    assert server.question is not None
    assert server.question.destination == url


async def test_req_146_counters_are_the_modules_own() -> None:
    """Even when they do not add up: nothing is counted here."""
    modules = [SendResult(PENDING, 5, 0, 0, 0), SendResult(PENDING, 2, 2, 0, 1)]
    server = FakeServer(modules, answered(0xB000, 2, 2, 1, *UIDS))
    exchange = await perform(server, invocation(STUDY))
    assert exchange.statuses == [PENDING, PENDING, 0xB000]
    assert exchange.counters(0) == (5, 0, 0, 0)
    assert exchange.counters(1) == (2, 2, 0, 1)
    assert exchange.counters() == (None, 2, 2, 1)
    assert exchange.failed_uids() == list(UIDS)
    assert [data for _, data in exchange.responses[:-1]] == [b"", b""]


async def test_nothing_failed_has_no_data_set() -> None:
    exchange = await perform(FakeServer(end=answered(0xB000, 1, 0, 2)), invocation(STUDY))
    assert exchange.responses[-1][1] == b""


@pytest.mark.parametrize(
    ("end", "status"),
    [
        (ended(How.REFUSED, 400), 0xA900),
        (ended(How.REFUSED, 403), 0xA801),
        (ended(How.REFUSED, 404), UPSTREAM_REFUSED),
        (ended(How.REFUSED, 401), UPSTREAM_REFUSED),
        (ended(How.REFUSED, 413), 0xA701),
        (ended(How.REFUSED, 414), 0xA701),
        (ended(How.NO_ANSWER, 503, taken=False), 0xA702),
        (ended(How.NO_ANSWER, taken=None), UPSTREAM_UNFINISHED),
        (ended(How.UNFINISHED), UPSTREAM_UNFINISHED),
        (ended(How.FORGOTTEN, 410), UPSTREAM_FORGOT),
        (Misconfigured("bad certificate"), UPSTREAM_REFUSED),
    ],
)
async def test_what_went_wrong_there_has_a_status_and_words_here(
    end: Callable[[Uid], End] | Exception, status: int
) -> None:
    exchange = await perform(FakeServer(end=end), invocation(STUDY))
    assert exchange.statuses == [status]
    assert exchange.last.error_comment
    assert exchange.counters() == (None, None, None, None), "nothing is counted here"


async def test_an_end_that_was_not_seen_gives_the_last_counters() -> None:
    last = SendResult(PENDING, 3, 1, 0, 0)
    exchange = await perform(FakeServer([last], ended(How.UNFINISHED, result=last)), invocation(STUDY))
    assert exchange.statuses == [PENDING, UPSTREAM_UNFINISHED]
    assert exchange.counters() == (None, 1, 0, 0)


@pytest.mark.parametrize(
    ("keys", "to", "status"),
    [
        (STUDY, "NOBODY", 0xA801),
        ({"QueryRetrieveLevel": "STUDY"}, "STORE", 0xA900),
        ({**STUDY, "PatientName": "Doe"}, "STORE", 0xA900),
        ({"QueryRetrieveLevel": "SERIES", "SeriesInstanceUID": "1.2.1"}, "STORE", 0xA900),
        ({"QueryRetrieveLevel": "PATIENT", "PatientID": "*"}, "STORE", 0xA900),
    ],
)
async def test_what_cannot_be_translated_is_not_asked(keys: Mapping[str, str], to: str, status: int) -> None:
    server = FakeServer(end=answered(0, 1, 0, 0))
    exchange = await perform(server, invocation(keys, to=to))
    assert exchange.statuses == [status]
    assert server.question is None


async def cancel(server: FakeServer) -> FakeExchange:
    exchange = FakeExchange()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(perform, server, invocation(STUDY), exchange)
        await anyio.wait_all_tasks_blocked()
        exchange.cancelled.set()
    return exchange


async def test_o05_a_cancel_is_answered_with_the_counters_of_one_last_get() -> None:
    server = FakeServer([SendResult(PENDING, 5, 0, 0, 0)], checked=SendResult(PENDING, 3, 2, 0, 0))
    exchange = await cancel(server)
    assert exchange.statuses == [PENDING, 0xFE00]
    assert exchange.counters() == (3, 2, 0, 0)
    assert server.checks == 1


async def test_a_cancel_without_another_answer_gives_what_was_last_known() -> None:
    pending = SendResult(PENDING, 5, 0, 0, 0)
    exchange = await cancel(FakeServer([pending], checked=Transient("refused")))
    assert (exchange.statuses[-1], exchange.counters()) == (0xFE00, (5, 0, 0, 0))
    exchange = await cancel(FakeServer())
    assert (exchange.statuses, exchange.counters()) == ([0xFE00], (None, None, None, None))


async def test_a_cancel_that_comes_too_late_gives_the_end() -> None:
    exchange = await cancel(FakeServer(checked=SendResult(0x0000, None, 5, 0, 0)))
    assert (exchange.statuses, exchange.counters()) == ([0x0000], (None, 5, 0, 0))


async def test_req_122_a_scu_that_has_gone_ends_our_asking() -> None:
    server = FakeServer([SendResult(PENDING, 5, 0, 0, 0)] * 2)
    with pytest.raises(PeerError):
        await perform(server, invocation(STUDY), FakeExchange(gone_after=0))
    assert server.closed


async def test_req_118_pending_responses_can_be_left_out() -> None:
    server, exchange = FakeServer([SendResult(PENDING, 5, 0, 0, 0)], answered(0, 5, 0, 0)), FakeExchange()
    given: Exchange = exchange
    await proxy(server, pending_s=0.0).perform(invocation(STUDY), given)
    assert exchange.statuses == [0x0000]


def test_nothing_is_granted() -> None:
    service = proxy(FakeServer())
    assert service.grant(STUDY_ROOT.move, b"\1\1") == b"\0\0"
    assert service.grant(STUDY_ROOT.move, b"\1") == b"\0"
