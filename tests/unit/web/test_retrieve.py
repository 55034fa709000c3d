"""WADO-RS: what a client gets for what it asks, from a real store (PS3.18 §10.4, dicom-facts A.5, A.7, B.2)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydicom.encaps import generate_frames
from retrieve_harness import ANY, ANY_OCTETS, BASE, DICOM, JSON, OCTETS, Archive, files, open_archive

from router.dicom.envelope import Declared
from router.dicom.uids import IMPLEMENTATION_CLASS_UID, Uid
from router.errors import PeerError

EXPLICIT = "1.2.840.10008.1.2.1"
J2K = "1.2.840.10008.1.2.4.91"
XML = 'multipart/related; type="application/dicom+xml"'
CT = Uid("1.2.840.10008.5.1.4.1.1.2")


@pytest.fixture
async def archive(tmp_path: Path) -> AsyncIterator[Archive]:
    async with open_archive(tmp_path) as opened:
        yield opened


async def add(archive: Archive, *names: str) -> None:
    for number, file in enumerate(files(names), 1):
        await archive.add(file, series=f"1.2.3.{number}")


def syntaxes(parts: object) -> list[str]:
    assert isinstance(parts, list)
    return [part.headers["content-type"].partition("transfer-syntax=")[2] for part in parts]


async def test_a_study_comes_as_one_file_a_part(archive: Archive) -> None:
    await add(archive, "CT_small.dcm", "MR_small_implicit.dcm")
    answer = await archive.get("/studies/1.2.3", DICOM)
    assert (answer.status, answer.ended) == (200, True)
    assert answer.headers["content-type"].startswith('multipart/related; type="application/dicom"; boundary=')
    assert answer.headers["vary"] == "Accept"
    for part, instance in zip(answer.parts, archive.instances, strict=True):
        assert part.headers["content-type"] == f"application/dicom; transfer-syntax={EXPLICIT}"
        assert part.headers["content-length"] == str(len(part.content))
        assert part.headers["content-location"] == f"{BASE}{archive.url(instance)}"
        assert part.data_set.SOPInstanceUID == instance.sop_instance_uid


async def test_series_and_instance_hold_only_theirs(archive: Archive) -> None:
    await add(archive, "CT_small.dcm", "MR_small.dcm")
    series = await archive.get("/studies/1.2.3/series/1.2.3.2")
    assert [part.data_set.Modality for part in series.parts] == ["MR"]
    instance = await archive.get(archive.url(archive.instances[0]))
    assert [part.data_set.Modality for part in instance.parts] == ["CT"]
    elsewhere = archive.url(archive.instances[0]).replace("1.2.3.1", "1.2.3.2")
    assert (await archive.get(elsewhere)).status == 404


async def test_the_file_meta_is_ours_and_tells_nothing_of_where_it_came_from(archive: Archive) -> None:
    await add(archive, "CT_small.dcm")
    [part] = (await archive.get("/studies/1.2.3")).parts
    meta = part.data_set.file_meta
    assert (meta.ImplementationClassUID, meta.TransferSyntaxUID) == (str(IMPLEMENTATION_CLASS_UID), EXPLICIT)
    assert meta.MediaStorageSOPInstanceUID == str(archive.instances[0].sop_instance_uid)
    assert meta.FileMetaInformationGroupLength == len(part.content) - 144 - archive.instances[0].located.data_set_bytes
    assert b"SECRETAE" not in part.content
    assert b"192.0.2.77" not in part.content
    assert b"SENDRS\0" not in part.content


@pytest.mark.parametrize("name", ["MR_small_implicit.dcm", "MR_small_bigendian.dcm", "image_dfl.dcm"])
@pytest.mark.parametrize("accept", [DICOM, ANY, "*/*", f"{DICOM}; transfer-syntax={EXPLICIT}"])
async def test_implicit_vr_big_endian_and_deflated_go_out_as_explicit_vr(
    archive: Archive, name: str, accept: str
) -> None:
    await add(archive, name)
    [part] = (await archive.get("/studies/1.2.3", accept)).parts
    assert syntaxes([part]) == [EXPLICIT]
    sent = part.data_set
    assert sent.file_meta.TransferSyntaxUID == EXPLICIT
    assert sent.Rows * sent.Columns * sent.BitsAllocated // 8 == len(sent.PixelData)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.2"])
async def test_implicit_vr_and_big_endian_are_never_sent_even_when_asked_for(archive: Archive, syntax: str) -> None:
    await add(archive, "MR_small_implicit.dcm", "MR_small_bigendian.dcm")
    answer = await archive.get("/studies/1.2.3", f"{DICOM}; transfer-syntax={syntax}")
    assert answer.status == 406
    assert EXPLICIT in json.loads(answer.body)["allowed"]


async def test_a_deflated_instance_stays_deflated_when_that_is_asked_for(archive: Archive) -> None:
    await add(archive, "image_dfl.dcm")
    [part] = (await archive.get("/studies/1.2.3", f"{DICOM}; transfer-syntax=1.2.840.10008.1.2.1.99")).parts
    assert part.data_set.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1.99"


@pytest.mark.parametrize("accept", [DICOM, ANY, "*/*", f"{DICOM}; transfer-syntax={J2K}"])
async def test_a_compressed_instance_is_sent_as_it_is_stored(archive: Archive, accept: str) -> None:
    await add(archive, "JPEG2000.dcm")
    [part] = (await archive.get("/studies/1.2.3", accept)).parts
    assert syntaxes([part]) == [J2K]
    located = archive.instances[0].located
    stored = archive.store.path_of(located.file).read_bytes()[located.data_set_offset :]
    assert part.content.endswith(stored)


async def test_a_compressed_instance_asked_for_uncompressed_is_not_acceptable(archive: Archive) -> None:
    await add(archive, "JPEG2000.dcm")
    answer = await archive.get(archive.url(archive.instances[0]), f"{DICOM}; transfer-syntax={EXPLICIT}")
    assert answer.status == 406
    assert f"transfer-syntax={J2K}" in json.loads(answer.body)["allowed"]


async def test_of_a_study_that_fits_in_part_the_rest_is_left_out_and_told(archive: Archive) -> None:
    await add(archive, "CT_small.dcm", "JPEG2000.dcm", "MR_small_implicit.dcm")
    answer = await archive.get("/studies/1.2.3", f"{DICOM}; transfer-syntax={EXPLICIT}")
    assert (answer.status, syntaxes(answer.parts)) == (206, [EXPLICIT, EXPLICIT])
    assert "1 of 3 instances are left out" in answer.headers["warning"]


async def test_each_instance_goes_out_in_the_syntax_that_is_wanted_most(archive: Archive) -> None:
    await add(archive, "CT_small.dcm", "JPEG2000.dcm")
    accept = f"{DICOM}; transfer-syntax={J2K};q=0.4, {DICOM}; transfer-syntax={EXPLICIT};q=0.9"
    answer = await archive.get("/studies/1.2.3", accept)
    assert (answer.status, syntaxes(answer.parts)) == (200, [EXPLICIT, J2K])


async def test_one_instance_alone_is_no_multipart(archive: Archive) -> None:
    await add(archive, "CT_small.dcm")
    answer = await archive.get(archive.url(archive.instances[0]), "application/dicom")
    assert answer.headers["content-type"] == f"application/dicom; transfer-syntax={EXPLICIT}"
    assert answer.headers["content-length"] == str(len(answer.body))
    assert answer.headers["content-location"] == f"{BASE}{archive.url(archive.instances[0])}"
    assert answer.body[128:132] == b"DICM"


async def test_several_instances_do_not_come_alone(archive: Archive) -> None:
    await add(archive, "CT_small.dcm", "MR_small.dcm")
    assert (await archive.get("/studies/1.2.3", "application/dicom")).status == 406


@pytest.mark.parametrize(
    ("path", "accept", "status"),
    [
        ("/studies/1.2.9", ANY, 404),
        ("/studies/1.2.3/series/1.2.9", ANY, 404),
        ("/studies/abc", ANY, 400),
        ("/studies/1.2.3/series/1..2", ANY, 400),
        ("/studies/1.2.3/series/1.2.3.1/instances/" + "1." * 40 + "1", ANY, 400),
        ("/studies/1.2.3", None, 406),
        ("/studies/1.2.3", "image/jpeg", 406),
        ("/studies/1.2.3", f"{DICOM}, image/jpeg", 400),
        ("/studies/1.2.3/metadata", DICOM, 406),
        ("/studies/1.2.3/rendered", "image/jpeg", 404),
        ("/studies/1.2.3/thumbnail", "image/jpeg", 404),
        ("/studies/1.2.3?accept=a&accept=b", ANY, 400),
    ],
)
async def test_what_cannot_be_had(archive: Archive, path: str, accept: str | None, status: int) -> None:
    await add(archive, "CT_small.dcm")
    assert (await archive.get(path, accept)).status == status


async def test_head_gives_the_head_only(archive: Archive) -> None:
    await add(archive, "CT_small.dcm")
    answer = await archive.get(archive.url(archive.instances[0]), "application/dicom", method="HEAD")
    assert (answer.status, answer.chunks, answer.ended) == (200, [], True)
    assert int(answer.headers["content-length"]) > 39_000


async def test_b55_without_a_usable_host_locations_are_paths(archive: Archive) -> None:
    await add(archive, "CT_small.dcm")
    [part] = (await archive.get("/studies/1.2.3", host='evil"\\')).parts
    assert part.headers["content-location"] == f"/dicom-web{archive.url(archive.instances[0])}"


async def test_large_and_small_instances_come_whole_and_in_order(archive: Archive) -> None:
    contents = [bytes([n]) * size for n, size in enumerate((10, 3_000_001, 700_000, 700_000, 20, 1_048_577))]
    for number, content in enumerate(contents):
        await archive.add_data_set(Declared(CT, Uid(f"1.2.{number}"), Uid(EXPLICIT)), content)
    answer = await archive.get("/studies/1.2.3")
    for part, content in zip(answer.parts, contents, strict=True):
        assert part.headers["content-length"] == str(len(part.content))
        assert part.content.endswith(content)
    assert max(map(len, answer.chunks)) < 1_500_000


async def test_a_damaged_instance_is_left_out_when_that_is_known_in_time(archive: Archive) -> None:
    await add(archive, "CT_small.dcm", "MR_small.dcm", "MR_small_implicit.dcm")
    archive.damage(archive.instances[0])
    archive.store.path_of(archive.instances[1].located.file).unlink()
    answer = await archive.get("/studies/1.2.3")
    assert (answer.status, answer.ended, len(answer.parts)) == (200, True, 1)


@pytest.mark.parametrize("accept", [ANY, "application/dicom"])
async def test_a_damaged_instance_alone_is_an_error_of_ours(archive: Archive, accept: str) -> None:
    await add(archive, "CT_small.dcm")
    archive.damage(archive.instances[0])
    answer = await archive.get(archive.url(archive.instances[0]), accept)
    assert answer.status == 500
    assert "sendrs verify" in json.loads(answer.body)["next"]
    assert b".dcm" not in answer.body


async def test_a_large_instance_found_damaged_at_its_end_breaks_the_answer_off(archive: Archive) -> None:
    stored = await archive.add_data_set(Declared(CT, Uid("1.2.5"), Uid(EXPLICIT)), bytes(3_000_000))
    archive.damage(stored, offset=2_999_999)
    answer = await archive.get("/studies/1.2.3")
    assert (answer.status, answer.ended) == (200, False)
    with pytest.raises(PeerError, match="before its closing delimiter"):
        _ = answer.parts
    assert len(answer.body) < 3_000_000


async def test_what_cannot_be_re_encoded_is_left_out(archive: Archive) -> None:
    await archive.add_data_set(Declared(CT, Uid("1.2.5"), Uid("1.2.840.10008.1.2")), b"\x08\0\x18\0\xff\0\0\0ab")
    await add(archive, "CT_small.dcm")
    answer = await archive.get("/studies/1.2.3")
    assert (answer.status, len(answer.parts)) == (200, 1)


async def test_metadata_is_one_json_array(archive: Archive) -> None:
    await add(archive, "CT_small.dcm", "MR_small_bigendian.dcm", "JPEG2000.dcm", "image_dfl.dcm")
    answer = await archive.get("/studies/1.2.3/metadata", JSON)
    assert (answer.status, answer.headers["content-type"]) == (200, JSON)
    data_sets = json.loads(answer.body)
    uids = [one["00080018"]["Value"][0] for one in data_sets]
    assert uids == [instance.sop_instance_uid for instance in archive.instances]
    uris = [one["7FE00010"]["BulkDataURI"] for one in data_sets]
    assert uris == [f"{BASE}{archive.url(instance)}/bulkdata/7FE00010" for instance in archive.instances]
    assert not [tag for one in data_sets for tag in one if tag.startswith("0002")]


async def test_metadata_comes_as_xml_in_parts(archive: Archive) -> None:
    await add(archive, "CT_small.dcm", "MR_small.dcm")
    answer = await archive.get("/studies/1.2.3/metadata", XML)
    assert [part.headers["content-type"] for part in answer.parts] == ["application/dicom+xml"] * 2
    assert all(b"<NativeDicomModel" in part.content for part in answer.parts)


async def test_metadata_that_cannot_be_read_is_left_out_and_alone_an_error(archive: Archive) -> None:
    broken = await archive.add_data_set(Declared(CT, Uid("1.2.5"), Uid(EXPLICIT)), b"\x08\0\x18\0UI\xff\0ab")
    assert (await archive.get("/studies/1.2.3/metadata", JSON)).status == 500
    await add(archive, "CT_small.dcm")
    assert len(json.loads((await archive.get("/studies/1.2.3/metadata", JSON)).body)) == 1
    assert (await archive.get(archive.url(broken, "metadata"), JSON)).status == 500


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small_implicit.dcm", "rtdose.dcm", "image_dfl.dcm"])
async def test_every_bulk_data_uri_of_the_metadata_gives_its_value(archive: Archive, name: str) -> None:
    await add(archive, name)
    instance = archive.instances[0]
    [metadata] = json.loads((await archive.get(archive.url(instance, "metadata"), JSON)).body)
    uris = {tag: value["BulkDataURI"] for tag, value in metadata.items() if "BulkDataURI" in value}
    data_set = (await archive.get(archive.url(instance))).parts[0].data_set
    for tag, uri in uris.items():
        [part] = (await archive.get(uri.removeprefix(BASE), ANY_OCTETS)).parts
        assert part.headers["content-location"] == uri
        assert part.content == data_set.get_item(int(tag, 16)).value
    everything = await archive.get(archive.url(instance, "bulkdata"), OCTETS)
    assert [part.headers["content-location"] for part in everything.parts] == list(uris.values())
    as_instance = await archive.get(archive.url(instance), OCTETS)
    assert [part.content for part in as_instance.parts] == [part.content for part in everything.parts]


async def test_big_endian_bulk_data_goes_out_in_little_endian(archive: Archive) -> None:
    await add(archive, "MR_small_bigendian.dcm", "MR_small.dcm")
    big, little = [
        (await archive.get(archive.url(instance, "bulkdata", "7FE00010"), OCTETS)).parts[0].content
        for instance in archive.instances
    ]
    assert big == little


async def test_one_bulk_value_alone(archive: Archive) -> None:
    await add(archive, "CT_small.dcm")
    answer = await archive.get(archive.url(archive.instances[0], "bulkdata", "7FE00010"), "application/octet-stream")
    assert answer.headers["content-type"] == f"application/octet-stream; transfer-syntax={EXPLICIT}"
    assert answer.headers["content-length"] == "32768"
    assert len(answer.body) == 32768


@pytest.mark.parametrize(
    "pointer", ["7FE00011", "00100010/1/00100010", "7fe00010", "x", "7FE00010/1", "00080018/9/00000000"]
)
async def test_bulk_data_that_is_not_there(archive: Archive, pointer: str) -> None:
    await add(archive, "CT_small.dcm")
    assert (await archive.get(archive.url(archive.instances[0], "bulkdata", pointer), ANY_OCTETS)).status == 404


async def test_pixel_data_of_a_study(archive: Archive) -> None:
    await add(archive, "CT_small.dcm", "SC_rgb_rle_2frame.dcm", "rtplan.dcm")
    answer = await archive.get("/studies/1.2.3/pixeldata", 'multipart/related; type="*/*"')
    types = [part.headers["content-type"].partition(";")[0] for part in answer.parts]
    assert types == ["application/octet-stream", "image/dicom-rle", "image/dicom-rle"]


async def test_a_study_without_pixel_data(archive: Archive) -> None:
    await add(archive, "rtplan.dcm")
    assert (await archive.get("/studies/1.2.3/pixeldata", ANY_OCTETS)).status == 404
    assert (await archive.get(archive.url(archive.instances[0], "frames", "1"), ANY_OCTETS)).status == 404


async def test_native_frames(archive: Archive) -> None:
    await add(archive, "rtdose.dcm")
    instance = archive.instances[0]
    pixels = (await archive.get(archive.url(instance))).parts[0].data_set.PixelData
    answer = await archive.get(archive.url(instance, "frames", "15,1"), ANY_OCTETS)
    assert [part.content for part in answer.parts] == [pixels[-400:], pixels[:400]]
    assert [part.headers["content-location"] for part in answer.parts] == [
        f"{BASE}{archive.url(instance, 'frames', number)}" for number in ("15", "1")
    ]
    assert syntaxes(answer.parts) == [EXPLICIT, EXPLICIT]


async def test_compressed_frames_are_code_streams_by_their_name_or_as_octets(archive: Archive) -> None:
    await add(archive, "examples_ybr_color.dcm")
    instance = archive.instances[0]
    data_set = (await archive.get(archive.url(instance))).parts[0].data_set
    frames = list(generate_frames(data_set.PixelData, number_of_frames=30))
    jpeg = "1.2.840.10008.1.2.4.50"
    for accept, name in (
        (ANY_OCTETS, "application/octet-stream"),
        ("*/*", "image/jpeg"),
        ('multipart/related; type="image/jpeg"', "image/jpeg"),
        (f'multipart/related; type="image/jpeg"; transfer-syntax={jpeg}', "image/jpeg"),
    ):
        answer = await archive.get(archive.url(instance, "frames", "2,30"), accept)
        assert [bytes(part.content) for part in answer.parts] == [frames[1], frames[29]]
        assert [part.headers["content-type"] for part in answer.parts] == [f"{name}; transfer-syntax={jpeg}"] * 2
    alone = await archive.get(archive.url(instance, "frames", "3"), "image/jpeg")
    assert (alone.body, alone.headers["content-location"]) == (
        frames[2],
        f"{BASE}{archive.url(instance, 'frames', '3')}",
    )
    uncompressed = await archive.get(archive.url(instance, "frames", "3"), f"{OCTETS}; transfer-syntax={EXPLICIT}")
    assert uncompressed.status == 406


@pytest.mark.parametrize(
    ("frames", "status"),
    [
        ("16", 404),
        ("1,99999", 404),
        ("0", 400),
        ("-1", 400),
        ("1,", 400),
        ("1-3", 400),
        ("x", 400),
        ("9999999999", 400),
    ],
)
async def test_frame_lists(archive: Archive, frames: str, status: int) -> None:
    await add(archive, "rtdose.dcm")
    answer = await archive.get(archive.url(archive.instances[0], "frames", frames), ANY_OCTETS)
    assert answer.status == status
    assert status == 400 or json.loads(answer.body)["allowed"] == "1 to 15"


async def test_frames_that_cannot_be_told_apart(archive: Archive) -> None:
    [file] = files(["SC_rgb_rle_2frame.dcm"])
    await archive.add(file.replace(b"\x28\0\x08\0IS\x02\0002 ", b"\x28\0\x08\0IS\x02\0003 "))
    answer = await archive.get(archive.url(archive.instances[0], "frames", "1"), ANY_OCTETS)
    assert answer.status == 501
    assert "whole instance" in json.loads(answer.body)["next"]
