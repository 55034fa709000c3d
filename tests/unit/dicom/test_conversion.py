"""What can leave over the web, and deflated data sets on their way to Explicit VR Little Endian."""

from __future__ import annotations

import io
import zlib

import pytest

from router.dicom.conversion import (
    PIECE_BYTES,
    Converter,
    converter,
    inflate_into,
    is_uncompressed,
    web_transfer_syntaxes,
)
from router.dicom.envelope import Declared
from router.dicom.file_meta import PrefaceReader, encode_file_meta
from router.dicom.reencode import CannotReencode
from router.dicom.uids import Uid
from router.errors import PeerError

IMPLICIT, EXPLICIT, BIG = Uid("1.2.840.10008.1.2"), Uid("1.2.840.10008.1.2.1"), Uid("1.2.840.10008.1.2.2")
DEFLATED, J2K, PAPYRUS = Uid("1.2.840.10008.1.2.1.99"), Uid("1.2.840.10008.1.2.4.90"), Uid("1.2.840.10008.1.20")


def deflate(content: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(content) + packer.flush() + b"\0"


def convert(one: Converter, *chunks: bytes) -> list[bytes]:
    pieces = [piece for chunk in chunks for piece in one.feed(chunk)]
    return [*pieces, one.finish()]


@pytest.mark.parametrize(
    ("stored", "sendable"),
    [
        (IMPLICIT, (EXPLICIT,)),
        (BIG, (EXPLICIT,)),
        (EXPLICIT, (EXPLICIT,)),
        (DEFLATED, (EXPLICIT, DEFLATED)),
        (J2K, (J2K,)),
        (PAPYRUS, ()),
    ],
)
def test_what_a_stored_data_set_can_be_sent_as(stored: Uid, sendable: tuple[Uid, ...]) -> None:
    assert web_transfer_syntaxes(stored) == sendable
    assert is_uncompressed(stored) == (EXPLICIT in sendable)
    for wanted in sendable:
        assert (converter(stored, wanted) is None) == (stored == wanted)


@pytest.mark.parametrize("cut", [1, 7, 1000])
def test_a_deflated_data_set_is_inflated_in_pieces(cut: int) -> None:
    content = bytes(range(256)) * 5000
    deflated = deflate(content)
    one = converter(DEFLATED, EXPLICIT)
    assert one is not None
    pieces = convert(one, *(deflated[at : at + cut] for at in range(0, len(deflated), cut)))
    assert b"".join(pieces) == content
    assert max(map(len, pieces)) <= PIECE_BYTES


@pytest.mark.parametrize("deflated", [deflate(bytes(1000))[:-5], b"\xff\xff\xff", b""])
def test_a_broken_deflated_data_set_is_said_to_be_so(deflated: bytes) -> None:
    one = converter(DEFLATED, EXPLICIT)
    assert one is not None
    with pytest.raises(CannotReencode):
        convert(one, deflated)
    with pytest.raises(PeerError):
        inflate_into(io.BytesIO(deflated), io.BytesIO())


def test_b34_an_inflated_copy_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.dicom.conversion.MAX_INFLATED_BYTES", 1_000_000)
    copy = io.BytesIO()
    inflate_into(io.BytesIO(deflate(bytes(1_000_000))), copy)
    assert copy.getvalue() == bytes(1_000_000)
    copy = io.BytesIO()
    with pytest.raises(PeerError, match="more than 1000000 bytes"):
        inflate_into(io.BytesIO(deflate(bytes(50_000_000))), copy)
    assert len(copy.getvalue()) <= 1_000_000 + PIECE_BYTES


def test_a_file_meta_without_a_word_on_where_it_came_from() -> None:
    declared = Declared(Uid("1.2.840.10008.5.1.4.1.1.2"), Uid("1.2.3"), J2K)
    reader = PrefaceReader()
    assert bytes(reader.feed(encode_file_meta(declared) + b"\x08\0")) == b"\x08\0"
    assert reader.declared == declared
    assert reader.meta is not None
    assert sorted(reader.meta.elements) == [0x0000, 0x0001, 0x0002, 0x0003, 0x0010, 0x0012, 0x0013]
    assert int.from_bytes(reader.meta.elements[0], "little") == reader.meta.size - 144
