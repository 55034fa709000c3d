"""STOW-RS out: what is told of each instance for what a server answers, against a server that answers as told."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from pydicom.data import get_testdata_file
from scripted_origin import CERTIFICATE, Asked, Origin, answer, module, serving, store_all

from router.config.model import StowDestination
from router.delivery.stow import StowCourier
from router.delivery.stow_body import SMALL_BYTES
from router.dicom.envelope import Declared
from router.dicom.file_meta import PrefaceReader
from router.dicom.reencode import Reencoder
from router.dicom.status import Verdict
from router.dicom.transfer_syntax import EXPLICIT_VR_BIG_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from router.dicom.uids import Uid
from router.errors import Misconfigured, StorageError, Transient
from router.journal.records import Delivery
from router.net.http import AnswerLost, retry_after_s
from router.sending.courier import BrokenOff, Outcome
from router.store.files import DamagedFile
from router.store.stored import Located

CT = Uid("1.2.840.10008.5.1.4.1.1.2")
JPEG = Uid("1.2.840.10008.1.2.4.50")
BIG = SMALL_BYTES + 1


class FakeChunks:
    def __init__(self, data: bytes, damaged: bool):
        self._chunks = [data[at : at + 100_000] for at in range(0, len(data), 100_000)]
        self._damaged = damaged

    async def next(self) -> bytes:
        if self._damaged and len(self._chunks) == 1:
            raise DamagedFile("f", "its content is not what was received (SHA-256)")
        return self._chunks.pop(0) if self._chunks else b""


class FakeDataSets:
    """Data sets by file name; `damaged` ones are found out as the store finds them out."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.damaged: set[str] = set()
        self.fails = False

    def delivery(self, number: int, data: bytes = b"", syntax: Uid = EXPLICIT_VR_LITTLE_ENDIAN) -> Delivery:
        data = data or b"data set %d" % number
        file = f"{number}.dcm"
        self.files[file] = data
        declared = Declared(CT, Uid(f"1.2.{number}"), syntax)
        digest = hashlib.sha256(data).digest()
        return Delivery(number, number, 1, 0, 0.0, number, declared, file, 500, len(data), digest)

    def damage(self, delivery: Delivery) -> None:
        self.damaged.add(delivery.file)

    @asynccontextmanager
    async def open_data_set(self, located: Located, *, last: bool) -> AsyncIterator[FakeChunks]:
        if self.fails:
            raise StorageError("too many open files")
        yield FakeChunks(self.files[located.file], located.file in self.damaged)

    async def read_small(self, located: Sequence[Located], *, last: bool) -> list[bytes | DamagedFile]:
        if self.fails:
            raise StorageError("too many open files")
        return [
            DamagedFile(one.file, "damaged") if one.file in self.damaged else self.files[one.file] for one in located
        ]


class Told:
    """What a lane was told. `enough_after`: answer True from the n-th report on."""

    def __init__(self, enough_after: int = 1_000_000) -> None:
        self.outcomes: list[Outcome] = []
        self._enough_after = enough_after

    async def report(self, outcome: Outcome) -> bool | None:
        self.outcomes.append(outcome)
        return len(self.outcomes) >= self._enough_after

    @property
    def verdicts(self) -> dict[int, Verdict]:
        assert len({outcome.delivery.sub_operation_id for outcome in self.outcomes}) == len(self.outcomes), "told twice"
        return {outcome.delivery.sub_operation_id: outcome.verdict for outcome in self.outcomes}


def courier_to(origin: Origin, data_sets: FakeDataSets, **more: Any) -> StowCourier:
    return StowCourier(StowDestination(name="cloud", url=origin.url, **more), data_sets)


async def deliver(
    origin: Origin, data_sets: FakeDataSets, batch: Sequence[Delivery], told: Told | None = None, **more: Any
) -> Told:
    told = told or Told()
    async with serving(origin):
        session = courier_to(origin, data_sets, **more).session()
        try:
            await session.deliver(batch, told.report)
        finally:
            await session.aclose()
    return told


def batch_of(data_sets: FakeDataSets, count: int) -> list[Delivery]:
    return [data_sets.delivery(number) for number in range(1, count + 1)]


async def test_a_batch_is_one_request_with_each_instance_as_it_was_received() -> None:
    data_sets = FakeDataSets()
    batch = [
        data_sets.delivery(1),
        data_sets.delivery(2, bytes(range(256)) * 5000),
        data_sets.delivery(3, b"jpeg", JPEG),
    ]
    origin = Origin(script=store_all)
    told = await deliver(origin, data_sets, batch, headers={"X-Tenant": "a", "accept": "no"})
    assert told.verdicts == dict.fromkeys((1, 2, 3), Verdict.COMPLETED)
    [asked] = origin.requests
    assert (asked.method, asked.target) == ("POST", "/dicom-web/studies")
    assert asked.parts == {
        d.declared.sop_instance_uid: (d.declared.transfer_syntax_uid, data_sets.files[d.file]) for d in batch
    }
    assert int(asked.headers["content-length"]) == len(asked.body)
    assert (asked.headers["accept"], asked.headers["accept-encoding"]) == ("application/dicom+json", "identity")
    assert asked.headers["x-tenant"] == "a"
    assert "cookie" not in asked.headers


async def test_one_connection_carries_batch_after_batch() -> None:
    data_sets = FakeDataSets()
    origin = Origin(script=store_all)
    async with serving(origin):
        session = courier_to(origin, data_sets).session()
        for number in range(1, 4):
            await session.deliver([data_sets.delivery(number)], Told().report)
        await session.aclose()
    assert [asked.connection for asked in origin.requests] == [1, 1, 1]


async def test_a_kept_connection_that_the_server_closed_is_opened_again() -> None:
    data_sets = FakeDataSets()
    origin = Origin(script=store_all, close_after_answer=True)
    told = Told()
    async with serving(origin):
        session = courier_to(origin, data_sets).session()
        for number in range(1, 4):
            await session.deliver([data_sets.delivery(number)], told.report)
        await session.aclose()
    assert told.verdicts == dict.fromkeys((1, 2, 3), Verdict.COMPLETED)


@pytest.mark.parametrize(
    ("name", "syntax"),
    [("MR_small_implicit.dcm", IMPLICIT_VR_LITTLE_ENDIAN), ("MR_small_bigendian.dcm", EXPLICIT_VR_BIG_ENDIAN)],
)
@pytest.mark.parametrize("large", [False, True])
async def test_what_the_web_forbids_goes_out_as_explicit_little_endian(name: str, syntax: Uid, large: bool) -> None:
    data = _data_set_of(name) + (_padding(syntax) if large else b"")
    reencoder = Reencoder(syntax)
    expected = reencoder.feed(data) + reencoder.finish()
    data_sets = FakeDataSets()
    origin = Origin(script=store_all)
    told = await deliver(origin, data_sets, [data_sets.delivery(1, data, syntax), data_sets.delivery(2)])
    assert told.verdicts == dict.fromkeys((1, 2), Verdict.COMPLETED)
    [asked] = origin.requests
    assert asked.parts["1.2.1"] == (EXPLICIT_VR_LITTLE_ENDIAN, expected)
    assert asked.headers["transfer-encoding"] == "chunked"


def _data_set_of(name: str) -> bytes:
    return bytes(PrefaceReader().feed(Path(str(get_testdata_file(name, download=False))).read_bytes()))


def _padding(syntax: Uid) -> bytes:
    """A large Data Set Trailing Padding."""
    length = 4 * SMALL_BYTES
    if syntax == EXPLICIT_VR_BIG_ENDIAN:
        return b"\xff\xfc\xff\xfcOB\0\0" + length.to_bytes(4, "big") + bytes(length)
    return b"\xfc\xff\xfc\xff" + length.to_bytes(4, "little") + bytes(length)


@pytest.mark.parametrize("status", [200, 202, 409, 400])
async def test_each_instance_gets_what_the_module_says_of_it_whatever_the_status(status: int) -> None:
    data_sets = FakeDataSets()
    body = module(
        stored={"1.2.1": None, "1.2.2": 0xB000, "1.2.7": None},
        failed={
            "1.2.3": 0xA700,
            "1.2.4": 0xC000,
            "1.2.5": 0x0122,
            "1.2.6": 0x0111,
            "1.2.7": 0x0110,
            "1.2.8": None,
            "1.2.9": 0x0124,
        },
    )
    told = await deliver(Origin(script=lambda _: answer(status, body)), data_sets, batch_of(data_sets, 9))
    assert told.verdicts == {
        1: Verdict.COMPLETED,
        2: Verdict.WARNING,
        3: Verdict.DESTINATION,
        4: Verdict.INSTANCE,
        5: Verdict.NEVER,
        6: Verdict.WARNING,
        7: Verdict.UNCERTAIN,
        8: Verdict.INSTANCE,
        9: Verdict.MISCONFIGURED,
    }
    assert [outcome.status for outcome in told.outcomes[1:5]] == [0xB000, 0xA700, 0xC000, 0x0122]


@pytest.mark.parametrize("status", [200, 202])
async def test_f43_an_instance_that_the_answer_does_not_name_is_no_success(status: int) -> None:
    data_sets = FakeDataSets()
    body = module(stored={"1.2.1": None}, others=(0xC000,))
    told = await deliver(Origin(script=lambda _: answer(status, body)), data_sets, batch_of(data_sets, 2))
    assert told.verdicts == {1: Verdict.COMPLETED, 2: Verdict.UNCERTAIN}


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", ""),
        (b"{}", "application/dicom+json"),
        (module(), "application/dicom+json"),
        (b"<html>welcome</html>", "text/html"),
        (b"[" * 100_000, "application/dicom+json"),
        (b'{"00081199":{"vr":"SQ","Value":[]}}' + b" " * 50_000_000, "application/dicom+json"),
    ],
)
@pytest.mark.parametrize("count", [1, 3])
async def test_f43_a_200_without_a_module_is_uncertain(body: bytes, content_type: str, count: int) -> None:
    data_sets = FakeDataSets()
    told = await deliver(
        Origin(script=lambda _: answer(200, body, content_type)), data_sets, batch_of(data_sets, count)
    )
    assert set(told.verdicts.values()) == {Verdict.UNCERTAIN}
    assert len(told.outcomes) == count


@pytest.mark.parametrize(
    ("body", "verdict"),
    [(b"", Verdict.WARNING), (module(), Verdict.WARNING), (b"<html>log in</html>", Verdict.UNCERTAIN)],
)
async def test_o34_empty_200_accept_takes_an_empty_answer_for_one_instance(body: bytes, verdict: Verdict) -> None:
    data_sets = FakeDataSets()
    told = await deliver(
        Origin(script=lambda _: answer(200, body, "")), data_sets, batch_of(data_sets, 1), empty_200="accept"
    )
    assert told.verdicts == {1: verdict}


def test_o34_with_empty_200_accept_instances_go_one_by_one() -> None:
    destination = StowDestination(name="old", url="http://127.0.0.1:1", empty_200="accept")
    assert StowCourier(destination, FakeDataSets()).batch_instances == 1


@pytest.mark.parametrize("status", [400, 409, 422])
async def test_one_bad_instance_does_not_fail_its_batch(status: int) -> None:
    def choke(asked: Asked) -> bytes:
        return answer(status, b"bad thing", "text/plain") if "1.2.5" in asked.parts else store_all(asked)

    data_sets = FakeDataSets()
    told = await deliver(Origin(script=choke), data_sets, batch_of(data_sets, 7))
    assert told.verdicts == dict.fromkeys(range(1, 8), Verdict.COMPLETED) | {5: Verdict.INSTANCE}
    assert sorted(told.verdicts) == list(told.verdicts), "in order"
    [failed] = [outcome for outcome in told.outcomes if outcome.verdict is Verdict.INSTANCE]
    assert failed.status == status
    assert "they say: bad thing" in failed.reason


async def test_what_a_409_leaves_unnamed_is_asked_again_without_the_named() -> None:
    def conflict(asked: Asked) -> bytes:
        if "1.2.2" in asked.parts:
            return answer(409, module(failed={"1.2.2": 0xC000}))
        return store_all(asked)

    data_sets = FakeDataSets()
    origin = Origin(script=conflict)
    told = await deliver(origin, data_sets, batch_of(data_sets, 3))
    assert told.verdicts == {1: Verdict.COMPLETED, 2: Verdict.INSTANCE, 3: Verdict.COMPLETED}
    assert [len(asked.parts) for asked in origin.requests] == [3, 2]


async def test_other_failures_of_a_single_instance_are_its_reason() -> None:
    data_sets = FakeDataSets()
    told = await deliver(
        Origin(script=lambda _: answer(409, module(others=(0xC000,)))), data_sets, batch_of(data_sets, 1)
    )
    assert told.verdicts == {1: Verdict.INSTANCE}
    assert "C000H" in told.outcomes[0].reason


@pytest.mark.parametrize("status", [413, 415])
async def test_f50_413_splits_the_batch_down_to_the_one_that_is_too_large(status: int) -> None:
    def small_only(asked: Asked) -> bytes:
        return answer(status) if len(asked.body) > 3000 else store_all(asked)

    data_sets = FakeDataSets()
    batch = [data_sets.delivery(number, b"x" * (5000 if number == 3 else 600)) for number in range(1, 9)]
    told = await deliver(Origin(script=small_only), data_sets, batch)
    assert told.verdicts == dict.fromkeys(range(1, 9), Verdict.COMPLETED) | {3: Verdict.NEVER}


@pytest.mark.parametrize("status", [401, 403, 404, 301, 307, 308])
async def test_d12_b84_what_a_person_must_mend_stops_the_lane_and_redirects_are_not_followed(status: int) -> None:
    data_sets = FakeDataSets()
    other = Origin(script=store_all)
    told = Told()
    async with serving(other):
        script = lambda _: answer(status, Location=f"{other.url}/studies")  # noqa: E731
        with pytest.raises(Misconfigured, match=str(status)):
            await deliver(Origin(script=script), data_sets, batch_of(data_sets, 3), told)
    assert told.outcomes == []
    assert other.requests == [], "redirects are not followed (B84, F50)"


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504, 507])
async def test_d12_their_trouble_is_transient_and_retry_after_is_kept(status: int) -> None:
    data_sets = FakeDataSets()
    told = Told()
    with pytest.raises(Transient) as caught:
        await deliver(
            Origin(script=lambda _: answer(status, Retry_After="120")), data_sets, batch_of(data_sets, 3), told
        )
    assert caught.value.retry_after_s == 120
    assert not isinstance(caught.value, BrokenOff)
    assert told.outcomes == []


async def test_a_500_for_one_instance_blames_that_instance_after_the_others_went() -> None:
    def crash(asked: Asked) -> bytes:
        return answer(500) if "1.2.4" in asked.parts else store_all(asked)

    data_sets = FakeDataSets()
    told = Told()
    with pytest.raises(BrokenOff) as caught:
        await deliver(Origin(script=crash), data_sets, batch_of(data_sets, 4), told)
    assert caught.value.delivery.sub_operation_id == 4
    assert told.verdicts == dict.fromkeys((1, 2, 3), Verdict.COMPLETED)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("Thu, 01 Jan 1970 00:16:50 GMT", 10.0),
        ("Thu, 01 Jan 1970 00:16:50 -0000", 10.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1e9", None),
        ("Thu, 99 Jan 1970", None),
        ("9" * 5000, None),
    ],
)
def test_f50_retry_after_is_read_in_both_forms(text: str, seconds: float | None) -> None:
    assert retry_after_s(text, now=1000.0) == seconds


@pytest.mark.parametrize("small", [True, False])
async def test_damaged_content_never_arrives_whole_and_does_not_hold_up_the_others(small: bool) -> None:
    data_sets = FakeDataSets()
    batch = [data_sets.delivery(number, b"x" * (500 if small else BIG)) for number in range(1, 5)]
    data_sets.damage(batch[1])
    origin = Origin(script=store_all)
    told = await deliver(origin, data_sets, batch)
    assert told.verdicts == dict.fromkeys((1, 3, 4), Verdict.COMPLETED) | {2: Verdict.NEVER}
    assert "damaged" in told.outcomes[0].reason
    assert origin.wholeness == [False, True]


async def test_damaged_content_never_arrives_whole_when_the_length_is_not_told() -> None:
    data_sets = FakeDataSets()
    implicit = data_sets.delivery(1, _padding(IMPLICIT_VR_LITTLE_ENDIAN), IMPLICIT_VR_LITTLE_ENDIAN)
    damaged = data_sets.delivery(2, b"x" * BIG)
    data_sets.damage(damaged)
    origin = Origin(script=store_all)
    told = await deliver(origin, data_sets, [implicit, damaged])
    assert told.verdicts == {2: Verdict.NEVER, 1: Verdict.COMPLETED}
    assert origin.wholeness == [False, True]


@pytest.mark.parametrize("padding", [0, BIG])
async def test_what_cannot_be_re_encoded_is_parked_with_the_reason(padding: int) -> None:
    data_sets = FakeDataSets()
    broken = data_sets.delivery(
        1, b"\x10\x00\x20\x00" + (padding + 99).to_bytes(4, "little") + bytes(padding), IMPLICIT_VR_LITTLE_ENDIAN
    )
    told = await deliver(Origin(script=store_all), data_sets, [broken, data_sets.delivery(2)])
    assert told.verdicts == {1: Verdict.NEVER, 2: Verdict.COMPLETED}
    assert "middle of a value" in told.outcomes[0].reason


async def test_all_damaged_ends_without_a_whole_request() -> None:
    data_sets = FakeDataSets()
    batch = batch_of(data_sets, 3)
    for delivery in batch:
        data_sets.damage(delivery)
    origin = Origin(script=store_all)
    told = await deliver(origin, data_sets, batch)
    assert told.verdicts == dict.fromkeys((1, 2, 3), Verdict.NEVER)
    assert not any(asked.whole for asked in origin.requests)


async def test_trouble_with_our_own_disk_blames_no_instance() -> None:
    data_sets = FakeDataSets()
    batch = batch_of(data_sets, 2)
    data_sets.fails = True
    told = Told()
    with pytest.raises(Transient, match="our own store"):
        await deliver(Origin(script=store_all), data_sets, batch, told)
    assert told.outcomes == []


async def test_a_connection_that_breaks_mid_way_names_the_instance_it_broke_on() -> None:
    data_sets = FakeDataSets()
    batch = [data_sets.delivery(number, bytes(20_000_000)) for number in (1, 2)]
    told = Told()
    with pytest.raises(BrokenOff) as caught:
        await deliver(Origin(hang_up_after=100_000), data_sets, batch, told)
    assert caught.value.delivery is batch[0]
    assert told.outcomes == []


async def test_sent_whole_without_an_answer_is_uncertain_for_all() -> None:
    data_sets = FakeDataSets()
    told = Told()
    with pytest.raises(AnswerLost):
        await deliver(Origin(script=lambda _: None), data_sets, batch_of(data_sets, 3), told)
    assert told.verdicts == dict.fromkeys((1, 2, 3), Verdict.UNCERTAIN)


async def test_a_server_that_does_not_answer_in_time_is_uncertain() -> None:
    data_sets = FakeDataSets()
    told = Told()
    with pytest.raises(AnswerLost, match="nothing moved"):
        await deliver(
            Origin(before_answer=anyio.sleep_forever),
            data_sets,
            batch_of(data_sets, 1),
            told,
            connect_s=0.1,
            answer_s=0.2,
        )
    assert told.verdicts == {1: Verdict.UNCERTAIN}


async def test_garbage_instead_of_http_is_uncertain() -> None:
    data_sets = FakeDataSets()
    told = Told()
    with pytest.raises(AnswerLost):
        await deliver(Origin(script=lambda _: b"SSH-2.0-OpenSSH\r\n\r\n"), data_sets, batch_of(data_sets, 1), told)
    assert told.verdicts == {1: Verdict.UNCERTAIN}


async def test_an_answer_that_breaks_off_is_uncertain() -> None:
    data_sets = FakeDataSets()
    told = Told()
    cut = answer(200, module(stored={"1.2.1": None}))[:-5]
    with pytest.raises(AnswerLost):
        await deliver(Origin(script=lambda _: cut, close_after_answer=True), data_sets, batch_of(data_sets, 1), told)
    assert told.verdicts == {1: Verdict.UNCERTAIN}


async def test_an_answer_before_the_end_of_the_body_counts() -> None:
    data_sets = FakeDataSets()
    told = Told()
    with pytest.raises(Misconfigured, match="401"):
        await deliver(Origin(early=answer(401)), data_sets, [data_sets.delivery(1, bytes(5_000_000))], told)
    assert told.outcomes == []


async def test_nobody_there_is_transient() -> None:
    data_sets = FakeDataSets()
    courier = StowCourier(StowDestination(name="cloud", url="http://127.0.0.1:1/dicom-web"), data_sets)
    session = courier.session()
    with pytest.raises(Transient, match=r"127\.0\.0\.1:1"):
        await session.deliver(batch_of(data_sets, 1), Told().report)
    await session.aclose()


async def test_d12_a_certificate_that_is_not_trusted_is_for_a_person() -> None:
    data_sets = FakeDataSets()
    origin = Origin(script=store_all, tls=True)
    with pytest.raises(Misconfigured, match="certificate is not trusted"):
        await deliver(origin, data_sets, batch_of(data_sets, 1))
    assert origin.requests == []


async def test_ca_file_says_whom_to_trust() -> None:
    data_sets = FakeDataSets()
    told = await deliver(Origin(script=store_all, tls=True), data_sets, batch_of(data_sets, 1), ca_file=CERTIFICATE)
    assert told.verdicts == {1: Verdict.COMPLETED}


@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_a_ca_file_that_cannot_be_used_is_for_a_person(tmp_path: Path, content: str | None) -> None:
    ca_file = tmp_path / "ca.pem"
    if content is not None:
        ca_file.write_text(content)
    data_sets = FakeDataSets()
    with pytest.raises(Misconfigured, match="ca_file"):
        await deliver(Origin(tls=True), data_sets, batch_of(data_sets, 1), ca_file=ca_file)


async def test_https_to_a_server_that_speaks_none_is_for_a_person_or_for_later() -> None:
    data_sets = FakeDataSets()
    async with serving(Origin(script=store_all)) as origin:
        url = origin.url.replace("http:", "https:")
        session = StowCourier(StowDestination(name="c", url=url, connect_s=0.2, answer_s=0.2), data_sets).session()
        with pytest.raises((Misconfigured, Transient)):
            await session.deliver(batch_of(data_sets, 1), Told().report)
        await session.aclose()


async def test_a_lane_that_has_enough_gets_the_rest_of_the_answer_and_no_further_request() -> None:
    data_sets = FakeDataSets()
    origin = Origin(script=lambda asked: answer(413) if len(asked.parts) > 2 else store_all(asked))
    told = await deliver(origin, data_sets, batch_of(data_sets, 4), Told(enough_after=1))
    assert told.verdicts == dict.fromkeys((1, 2), Verdict.COMPLETED)
    assert [len(asked.parts) for asked in origin.requests] == [4, 2]


async def test_the_token_is_read_for_each_request(tmp_path: Path) -> None:
    token = tmp_path / "token"
    data_sets = FakeDataSets()
    origin = Origin(script=store_all)
    async with serving(origin):
        session = courier_to(origin, data_sets, bearer_token_file=token).session()
        with pytest.raises(Misconfigured, match="bearer_token_file"):
            await session.deliver(batch_of(data_sets, 1), Told().report)
        for text in ("one\n", "two"):
            token.write_text(text)
            await session.deliver(batch_of(data_sets, 1), Told().report)
        for text in ("", "a b", "a\nb", "x" * 20_000):
            token.write_text(text)
            with pytest.raises(Misconfigured, match="bearer_token_file"):
                await session.deliver(batch_of(data_sets, 1), Told().report)
        await session.aclose()
    assert [asked.headers["authorization"] for asked in origin.requests] == ["Bearer one", "Bearer two"]


@pytest.mark.parametrize("status", [200, 204, 400, 405, 406, 501])
async def test_probe_takes_any_answer_of_a_server_that_is_there(status: int) -> None:
    async with serving(Origin(script=lambda _: answer(status))) as origin:
        await courier_to(origin, FakeDataSets()).probe()
        [asked] = origin.requests
    assert (asked.method, asked.target) == ("GET", "/dicom-web/studies?limit=1")


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, Misconfigured),
        (403, Misconfigured),
        (404, Misconfigured),
        (302, Misconfigured),
        (429, Transient),
        (500, Transient),
        (503, Transient),
    ],
)
async def test_probe_says_what_is_wrong(status: int, error: type[Exception]) -> None:
    async with serving(Origin(script=lambda _: answer(status))) as origin:
        with pytest.raises(error, match=str(status)):
            await courier_to(origin, FakeDataSets()).probe()
