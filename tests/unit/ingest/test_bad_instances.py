"""Rows B28 to B43 and B60 of the catalogue: what a sender hears, and that nothing is kept of what it hears No to."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest
from ingest_harness import EXPLICIT, SOURCE, FixedRules, data_set, declared, element, open_core

from router.config.model import DicomConfig
from router.dicom.uids import Uid
from router.errors import Refused
from router.ingest.facts import INDEXED_CHARACTERS
from router.rules.decision import Decision

UID = "1.2.9.1"
STUDY, SERIES, SOP_INSTANCE = 0x0020000D, 0x0020000E, 0x00080018
HANGING_PROTOCOL = "1.2.840.10008.5.1.4.38.1"
DEFLATED = "1.2.840.10008.1.2.1.99"


async def _refusal(state: Path, content: bytes, *, uid: str = UID, rules: FixedRules | None = None, **more: str) -> int:
    """Send and give the status heard; assert that nothing was kept."""
    async with open_core(state, rules=rules) as core:
        reception = core.ingest.open_visit(SOURCE).receive(declared(uid, **more))
        await reception.write(content)
        with pytest.raises(Refused) as refused:
            await reception.accept()
        assert core.files() == {}
        assert await core.rows("SELECT count(*) FROM instance") == [(0,)]
        assert await core.rows("SELECT count(*) FROM study") == [(0,)]
    return refused.value.status


async def test_b28_a_uid_that_is_not_the_announced_one(tmp_path: Path) -> None:
    assert await _refusal(tmp_path, data_set("1.2.9.2")) == 0xA900


async def test_b28_a_data_set_without_sop_instance_uid(tmp_path: Path) -> None:
    assert await _refusal(tmp_path, data_set(UID, without=[SOP_INSTANCE])) == 0xA900


@pytest.mark.parametrize(
    "uid",
    ["../../etc/cron.d/x", "/abs", "a;reboot", "1." + "2" * 63, "", "1..2", "1.2\0", "1.٢", "3gb_native.0", "1.2\n"],
)
async def test_b29_an_invalid_uid_is_refused_before_any_byte_and_never_becomes_a_path(tmp_path: Path, uid: str) -> None:
    async with open_core(tmp_path) as core:
        with pytest.raises(Refused) as refused:
            core.ingest.open_visit(SOURCE).receive(declared(uid))
        assert core.files() == {}
    assert refused.value.status == 0xA900


async def test_b29_leading_zeros_are_taken_when_the_configuration_says_so(tmp_path: Path) -> None:
    async with open_core(tmp_path / "lenient") as core:
        await core.send("1.02.3")
        assert len(core.files()) == 1
    async with open_core(tmp_path / "strict", dicom=DicomConfig(accept_odd_uids=False)) as core:
        with pytest.raises(Refused) as refused:
            await core.send("1.02.3")
    assert refused.value.status == 0xA900


@pytest.mark.parametrize("tag", [STUDY, SERIES])
async def test_b30_study_or_series_uid_missing(tmp_path: Path, tag: int) -> None:
    assert await _refusal(tmp_path, data_set(UID, without=[tag])) == 0xC000


async def test_b30_study_uid_with_two_values(tmp_path: Path) -> None:
    assert await _refusal(tmp_path, data_set(UID, study="1.2\\1.3")) == 0xC000


async def test_b30_a_non_patient_instance_needs_neither(tmp_path: Path) -> None:
    content = data_set(UID, sop_class=HANGING_PROTOCOL, without=[STUDY, SERIES])
    async with open_core(tmp_path) as core:
        visit = core.ingest.open_visit(SOURCE)
        reception = visit.receive(declared(UID, sop_class=HANGING_PROTOCOL))
        await reception.write(content)
        await reception.accept()
        assert await core.rows("SELECT series_id FROM instance") == [(None,)]


async def test_b31_a_header_that_breaks_off_before_the_uids(tmp_path: Path) -> None:
    content = data_set(UID)
    assert await _refusal(tmp_path, content[: content.index(b"1.2.3.4") - 8]) == 0xC000


async def test_b31_a_header_that_breaks_off_behind_what_the_rules_need_is_kept_with_a_note(tmp_path: Path) -> None:
    broken = data_set(UID, without=[0x7FE00010])[:-3]
    async with open_core(tmp_path) as core:
        await core.send(UID, broken)
        [(note,)] = await core.rows("SELECT note FROM instance")
        assert len(core.files()) == 1
    assert "past the end" in note


async def test_b31_a_header_that_breaks_off_before_what_a_rule_needs(tmp_path: Path) -> None:
    broken = data_set(UID, without=[0x7FE00010])[:-3]
    unsure = FixedRules(Decision(problem='rule "x": SliceThickness was not read'))
    assert await _refusal(tmp_path, broken, rules=unsure) == 0xC000


async def test_b32_ten_thousand_nested_sequences(tmp_path: Path) -> None:
    opened = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    content = data_set(UID, description="")
    place = content.index(struct.pack("<HH", 0x0010, 0x0010))
    assert await _refusal(tmp_path, content[:place] + opened * 10_000 + content[place:]) == 0xC000


async def test_b33_a_crowd_of_private_elements_is_routed_by_what_was_found(tmp_path: Path) -> None:
    crowd = b"".join(element(0x00210000 + number, "LO", "x") for number in range(0x1000, 0x1000 + 60_000))
    content = data_set(UID, without=[0x00280010, 0x00280011, 0x7FE00010]) + crowd + crowd
    async with open_core(tmp_path) as core:
        await core.send(UID, content)
        [(routed, note)] = await core.rows("SELECT routed, note FROM instance")
    assert routed == 1
    assert "too many elements" in note


async def test_b34_a_deflated_bomb_is_kept_untouched_with_what_its_first_bytes_say(tmp_path: Path) -> None:
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    head = data_set(UID, without=[0x00280010, 0x00280011, 0x7FE00010])
    bomb = deflate.compress(head + element(0x00210010, "LO", "x"))
    bomb += deflate.compress(struct.pack("<HH2sHI", 0x0021, 0x1001, b"OB", 0, 200_000_000) + bytes(100_000_000))
    bomb += deflate.flush()
    async with open_core(tmp_path) as core:
        visit = core.ingest.open_visit(SOURCE)
        reception = visit.receive(declared(UID, transfer_syntax=DEFLATED))
        for start in range(0, len(bomb), 50_000):
            await reception.write(bomb[start : start + 50_000])
        await reception.accept()
        [(file, offset, note)] = await core.rows("SELECT file, data_set_offset, note FROM instance")
        assert core.files()[file][offset:] == bomb
    assert "deflated" in note


async def test_b37_unknown_character_set_is_noted(tmp_path: Path) -> None:
    content = element(0x00080005, "CS", "ISO_IR 999") + data_set(UID)
    async with open_core(tmp_path) as core:
        await core.send(UID, content)
        [(note,)] = await core.rows("SELECT note FROM instance")
    assert "Character Set" in note


async def test_b38_a_megabyte_of_description_is_cut_in_the_index_only(tmp_path: Path) -> None:
    description = "x" * 60_000
    async with open_core(tmp_path) as core:
        await core.send(UID, data_set(UID, description=description))
        [(indexed,)] = await core.rows("SELECT study_description FROM study")
        [content] = core.files().values()
    assert indexed == "x" * INDEXED_CHARACTERS
    assert description.encode() in content


@pytest.mark.parametrize(
    "content",
    [
        bytes(128) + b"DICM" + element(0x00020010, "UI", EXPLICIT) + data_set(UID),
        element(0x00020010, "UI", EXPLICIT) + data_set(UID),
    ],
    ids=["preamble and DICM", "group 0002"],
)
async def test_b40_a_ps310_header_in_the_data_set(tmp_path: Path, content: bytes) -> None:
    assert await _refusal(tmp_path, content) == 0xC000


async def test_b42_an_empty_data_set(tmp_path: Path) -> None:
    assert await _refusal(tmp_path, b"") == 0xA900


async def test_b43_absurd_rows_and_frames_are_stored_as_they_are(tmp_path: Path) -> None:
    content = data_set(UID, without=[0x00280010, 0x00280011, 0x7FE00010])
    content += element(0x00280008, "IS", "2147483647") + element(0x00280010, "US", b"\xff\xff")
    content += element(0x00280011, "US", b"\xff\xff") + element(0x7FE00010, "OW", b"\0\0")
    async with open_core(tmp_path) as core:
        await core.send(UID, content)
        assert await core.rows("SELECT rows, columns, number_of_frames FROM instance") == [
            ("65535", "65535", "2147483647")
        ]


async def test_b60_a_study_other_than_the_one_sent_to(tmp_path: Path) -> None:
    async with open_core(tmp_path) as core:
        visit = core.ingest.open_visit(SOURCE)
        for study, fits in (("1.2.3", True), ("1.2.99", False)):
            reception = visit.receive(declared(UID))
            await reception.write(data_set(UID))
            if fits:
                await reception.accept(study_instance_uid=Uid(study))
            else:
                with pytest.raises(Refused) as refused:
                    await reception.accept(study_instance_uid=Uid(study))
        assert len(core.files()) == 1
    assert refused.value.status == 0xA900


async def test_a_sop_class_other_than_announced_is_kept_with_a_note(tmp_path: Path) -> None:
    async with open_core(tmp_path) as core:
        await core.send(UID, data_set(UID, sop_class="1.2.840.10008.5.1.4.1.1.4"))
        [(note,)] = await core.rows("SELECT note FROM instance")
    assert "SOP Class UID" in note
