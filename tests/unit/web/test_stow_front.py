"""STOW-RS in: what a client is told for what it sends, driven as an ASGI server drives the app."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio
import pytest
from pydicom.data import get_testdata_file
from stow_harness import DISCONNECT, TYPE, FakeDoor, ask, body_of, part10, post

from router.config.model import HttpConfig, Peer
from router.dicom.envelope import Source
from router.dicom.uids import Uid
from router.dicomweb.multipart import PartLimits
from router.errors import Refused, StorageError
from router.net.callers import Callers
from router.web.app import make_app
from router.web.body import TooSlow, paced


@pytest.mark.parametrize("chunk", [1, 7, 1000, 1_000_000])
async def test_all_stored_is_200_and_names_each_instance(chunk: int) -> None:
    door = FakeDoor()
    answer = await post(door, body_of(part10("1.2.1", b"one"), part10("1.2.2", b"two" * 1000)), chunk)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/dicom+json")
    assert answer.uids("00081199") == ["1.2.1", "1.2.2"]
    assert answer.json["00081190"] == {"vr": "UR"}
    assert door.stored == {"1.2.1": b"one", "1.2.2": b"two" * 1000}
    assert door.source == Source("STOW-RS", "127.0.0.1")
    assert door.closed == 1


async def test_a_real_file_arrives_without_its_preface() -> None:
    with open(str(get_testdata_file("CT_small.dcm", download=False)), "rb") as file:  # noqa: ASYNC230, PTH123
        content = file.read()
    door = FakeDoor()
    answer = await post(door, body_of(content), 4096)
    assert answer.status == 200
    [data] = door.stored.values()
    assert content.endswith(data)
    assert data.startswith(b"\x08\x00\x05\x00CS")


async def test_the_study_in_the_path_is_checked_and_gives_the_retrieve_url() -> None:
    studies: list[Uid | None] = []
    door = FakeDoor(accept_error=lambda _, study: studies.append(study))  # type: ignore[func-returns-value]
    answer = await post(door, body_of(part10("1.2.1")), path="/dicom-web/studies/1.2.3")
    assert answer.json["00081190"] == {"vr": "UR", "Value": ["http://pacs:8080/dicom-web/studies/1.2.3"]}
    assert studies == [Uid("1.2.3")]


async def test_b60_an_instance_of_another_study_fails_with_a900() -> None:
    door = FakeDoor(
        accept_error=lambda r, _: Refused(0xA900, "another study") if r.declared.sop_instance_uid == "1.2.2" else None
    )
    answer = await post(door, body_of(part10("1.2.1"), part10("1.2.2")), path="/dicom-web/studies/1.2.3")
    assert answer.status == 202
    assert answer.uids("00081199") == ["1.2.1"]
    assert answer.failures() == {"1.2.2": 0xA900}
    assert answer.headers["warning"] == '299 sendrs "another study"'


async def test_all_refused_is_409_with_the_module() -> None:
    door = FakeDoor(receive_error=lambda declared: Refused(0x0122, "SOP class not supported"))
    answer = await post(door, body_of(part10("1.2.1"), part10("1.2.2")))
    assert answer.status == 409
    assert answer.failures() == {"1.2.1": 0x0122, "1.2.2": 0x0122}


async def test_a_refusal_in_the_middle_discards_the_instance_and_reads_on() -> None:
    door = FakeDoor(
        write_error=lambda r: Refused(0xA700, "too large") if r.declared.sop_instance_uid == "1.2.1" else None
    )
    answer = await post(door, body_of(part10("1.2.1", b"x" * 5000), part10("1.2.2")))
    assert (answer.status, answer.failures(), answer.uids("00081199")) == (202, {"1.2.1": 0xA700}, ["1.2.2"])
    assert [reception.ended for reception in door.receptions] == ["discarded", "accepted"]


@pytest.mark.parametrize("when", ["write", "accept"])
async def test_a_disk_that_fails_is_a700_and_says_no_path(when: str) -> None:
    error = StorageError("cannot write /var/lib/secret")
    door = FakeDoor(write_error=lambda _: error) if when == "write" else FakeDoor(accept_error=lambda _r, _s: error)
    answer = await post(door, body_of(part10("1.2.1")))
    assert (answer.status, answer.failures()) == (503, {"1.2.1": 0xA700})
    assert int(answer.headers["retry-after"]) > 0
    assert "secret" not in answer.headers["warning"]


async def test_no_room_is_503_before_the_body_is_read() -> None:
    door = FakeDoor(room=False)
    answer = await ask(make_app(HttpConfig(), door), [DISCONNECT])
    assert (answer.status, answer.json["status"]) == (503, 503)
    assert int(answer.headers["retry-after"]) > 0
    assert door.source is None


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.2"])
async def test_a_syntax_that_the_web_forbids_is_taken_as_it_is(syntax: str) -> None:
    door = FakeDoor()
    answer = await post(door, body_of(part10("1.2.1", b"raw", syntax)))
    assert (answer.status, door.stored) == (200, {"1.2.1": b"raw"})
    assert door.receptions[0].declared.transfer_syntax_uid == syntax


async def test_b59_parts_that_are_not_dicom_fail_and_the_others_are_stored() -> None:
    door = FakeDoor()
    truncated = part10("1.2.9")[:200]
    body = body_of(b"hello", part10("1.2.1"), bytes(128) + b"DICX" + bytes(50), b"", truncated)
    answer = await post(door, body)
    assert (answer.status, answer.uids("00081199"), answer.others()) == (202, ["1.2.1"], [0xC000] * 4)
    answer = await post(FakeDoor(), body_of(b"hello"))
    assert (answer.status, answer.others()) == (409, [0xC000])


async def test_b61_an_executable_preamble_does_not_reach_the_store() -> None:
    door = FakeDoor()
    answer = await post(door, body_of(part10("1.2.1", b"data", preamble=b"MZ" + b"\x90" * 126)))
    assert (answer.status, door.stored) == (200, {"1.2.1": b"data"})


async def test_b57_parts_before_the_break_stay_stored_and_are_listed() -> None:
    door = FakeDoor()
    body = body_of(part10("1.2.1"), part10("1.2.2", b"x" * 1000))[:-200]
    answer = await post(door, body)
    assert (answer.status, answer.uids("00081199"), answer.failures()) == (202, ["1.2.1"], {"1.2.2": 0xC000})
    assert [reception.ended for reception in door.receptions] == ["accepted", "discarded"]
    assert door.closed == 1


async def test_b57_a_break_between_parts_is_an_other_failure() -> None:
    answer = await post(FakeDoor(), body_of(part10("1.2.1"))[: -len("--\r\n")] + b"\r\nContent-")
    assert (answer.status, answer.uids("00081199"), answer.others()) == (202, ["1.2.1"], [0xC000])
    assert "closing delimiter" in answer.headers["warning"]


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", "no delimiter"),
        (b"--abc--", "no delimiter"),
        (b"--xyz\r\n" + b"a" * 1_000_000, "longer than 16384"),
        (b"--xyz\r\n\r\n" + part10("1.2.1"), "closing delimiter"),
        (b"--xyz--", "no part"),
        (b"p" * 100_000, "before the parts"),
    ],
)
async def test_b57_a_body_that_cannot_be_read_is_400_in_words(body: bytes, detail: str) -> None:
    answer = await post(FakeDoor(), body, 5000)
    assert (answer.status, answer.headers["content-type"]) == (400, "application/problem+json")
    assert detail in answer.json["detail"]


async def test_b57_too_many_parts() -> None:
    app = make_app(HttpConfig(), FakeDoor(), limits=PartLimits(parts=2))
    answer = await ask(app, [body_of(*(part10(f"1.2.{n}") for n in range(1, 5)))])
    assert (answer.status, answer.uids("00081199"), answer.others()) == (202, ["1.2.1", "1.2.2"], [0xC000])


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        (None, 415),
        ("application/dicom", 415),
        ("multipart/related; boundary=xyz", 415),
        ('multipart/form-data; type="application/dicom"; boundary=xyz', 415),
        ('multipart/related; type="application/dicom+json"; boundary=xyz', 415),
        ('multipart/related; type="application/dicom+xml"; boundary=xyz', 415),
        ("application/zip", 415),
        ('multipart/related; type="application/dicom"', 400),
        ('multipart/related; type="application/dicom"; boundary=' + "x" * 201, 400),
        ('multipart/related; type="application/dicom"; boundary="a b "', 400),
        ('multipart/related; type="application/dicom"; boundary=a; boundary=b', 400),
        ("nonsense", 400),
    ],
)
async def test_b57_b58_b62_b64_the_wrong_content_type_is_told_what_is_allowed(
    content_type: str | None, status: int
) -> None:
    headers = [("content-type", content_type)] if content_type else []
    answer = await ask(make_app(HttpConfig(), FakeDoor()), [DISCONNECT], headers=headers)
    assert answer.status == status
    assert answer.json["where"] == "Content-Type"
    assert 'type="application/dicom"' in answer.json["allowed"]


async def test_an_unquoted_type_is_taken() -> None:
    headers = [("content-type", "multipart/related; type=application/dicom; boundary=xyz")]
    assert (await post(FakeDoor(), body_of(part10("1.2.1")), headers=headers)).status == 200


async def test_two_content_types_are_refused() -> None:
    assert (await post(FakeDoor(), b"", headers=[("content-type", TYPE)] * 2)).status == 400


async def test_b53_compressed_bodies_are_not_taken() -> None:
    answer = await post(FakeDoor(), b"", headers=[("content-type", TYPE), ("content-encoding", "gzip")])
    assert (answer.status, answer.json["where"]) == (415, "Content-Encoding")


@pytest.mark.parametrize(
    "head",
    [
        {"Content-Type": "application/dicom+json"},
        {"Content-Type": "text/plain"},
        {"Content-Type": "multipart/mixed; boundary=abc"},
        {"Content-Type": "nonsense"},
        {"Content-Type": "application/dicom", "Content-Transfer-Encoding": "base64"},
        {"Content-Type": "application/dicom", "Content-Encoding": "gzip"},
    ],
)
async def test_b58_parts_of_another_type_are_415(head: Mapping[str, str]) -> None:
    door = FakeDoor()
    answer = await post(door, body_of(part10("1.2.1"), head=head))
    assert (answer.status, door.receptions) == (415, [])


async def test_a_part_without_content_type_is_what_the_request_says() -> None:
    assert (await post(FakeDoor(), body_of(part10("1.2.1"), head={}))).status == 200


async def test_a_client_that_goes_away_leaves_nothing_half_done() -> None:
    door = FakeDoor()
    body = body_of(part10("1.2.1"), part10("1.2.2", b"x" * 1000))
    await ask(make_app(HttpConfig(), door), [body[:-300], DISCONNECT])
    assert [reception.ended for reception in door.receptions] == ["accepted", "discarded"]
    assert door.closed == 1


async def test_instances_are_made_durable_side_by_side_but_not_without_bound() -> None:
    door = FakeDoor()
    answer = await post(door, body_of(*(part10(f"1.2.{n}") for n in range(1, 60))), 1_000_000)
    assert len(answer.uids("00081199")) == 59
    assert 1 < door.most_accepting <= 16


async def test_the_same_instance_twice_in_a_request_keeps_its_order() -> None:
    door = FakeDoor()
    await post(door, body_of(*(part10("1.2.1", b"%d" % n) for n in range(5))), 1_000_000)
    assert door.most_accepting == 1


async def test_b56_other_methods_are_405_with_allow() -> None:
    for method in ("GET", "PUT", "DELETE", "TRACE", "post"):
        answer = await post(FakeDoor(), b"", method=method)
        assert (answer.status, answer.headers["allow"]) == (405, "POST")
        assert answer.json["allowed"] == "POST"


@pytest.mark.parametrize(
    "path", ["/", "/studies", "/dicom-we", "/dicom-web/studies/", "/dicom-web//studies", "/dicom-web/studies/1.2/3"]
)
async def test_b55_other_paths_are_404(path: str) -> None:
    answer = await post(FakeDoor(), b"", path=path)
    assert (answer.status, answer.json["where"]) == (404, path)


@pytest.mark.parametrize("study", ["abc", "1..2", "..", "1.2\x00", "1." + "2" * 64])
async def test_b55_a_study_that_is_no_uid_is_400(study: str) -> None:
    assert (await post(FakeDoor(), b"", path=f"/dicom-web/studies/{study}")).status == 400


async def test_a_host_that_is_none_is_not_repeated() -> None:
    headers = [("content-type", TYPE), ("host", "a b<script>")]
    answer = await post(FakeDoor(), body_of(part10("1.2.1")), path="/dicom-web/studies/1.2.3", headers=headers)
    assert answer.json["00081190"] == {"vr": "UR"}


async def test_what_nobody_foresaw_costs_one_request() -> None:
    door = FakeDoor(accept_error=lambda _r, _s: ZeroDivisionError("a bug"))
    answer = await post(door, body_of(part10("1.2.1")))
    assert (answer.status, answer.headers["content-type"]) == (500, "application/problem+json")
    assert "bug" not in answer.body.decode()
    assert door.closed == 1


async def test_b52_a_sender_that_falls_silent_is_not_waited_for() -> None:
    async def silent() -> Any:
        yield b"x"
        await anyio.sleep_forever()

    stream = paced(silent(), idle_s=0.01)
    assert await anext(stream) == b"x"
    with pytest.raises(TooSlow, match="nothing came"):
        await anext(stream)


async def test_b52_a_trickle_is_not_waited_for() -> None:
    async def trickle() -> Any:
        while True:
            await anyio.sleep(0.001)
            yield b"x"

    with pytest.raises(TooSlow, match="less than 1000000 bytes/s"):
        async for _ in paced(trickle(), idle_s=0.05, min_bytes_per_s=1_000_000):
            pass


async def test_b52_our_own_slowness_is_not_held_against_the_sender() -> None:
    async def quick() -> Any:
        for _ in range(3):
            yield b"x"

    received = 0
    async for chunk in paced(quick(), idle_s=0.05, min_bytes_per_s=1_000_000):
        received += len(chunk)
        await anyio.sleep(0.06)
    assert received == 3


@pytest.mark.parametrize("client", ["10.1.2.3", "::ffff:10.1.2.3", "", "testclient"])
async def test_a_stranger_is_403_before_anything_is_read_and_told_where_to_be_registered(client: str) -> None:
    door = FakeDoor()
    answer = await ask(make_app(HttpConfig(), door), [body_of(part10("1.2.1"))], client=client)
    assert (answer.status, answer.headers["content-type"]) == (403, "application/problem+json")
    assert b"[peers]" in answer.body
    assert door.source is None


@pytest.mark.parametrize("client", ["10.1.2.3", "::ffff:10.1.2.3", "127.0.0.1", "::1"])
async def test_a_registered_address_and_loopback_may_store(client: str) -> None:
    callers = Callers({"ct1": Peer(name="ct1", ae_title="CT1", address="10.1.0.0/16")})
    app = make_app(HttpConfig(), FakeDoor(), may_call=callers.allows_request)
    assert (await ask(app, [body_of(part10("1.2.1"))], client=client)).status == 200
