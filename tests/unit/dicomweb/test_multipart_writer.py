"""What the writer writes, the reader reads; and so does Python's own mail parser."""

from __future__ import annotations

import email

from router.dicomweb.multipart import BodyEnded, PartBegun, PartData, PartEnded, PartReader
from router.dicomweb.multipart_writer import closing, new_boundary, part_head


def body(boundary: str) -> bytes:
    return b"".join(
        (
            part_head(boundary, "application/dicom", length=3, location="http://pacs/studies/1.2"),
            b"abc",
            part_head(boundary, "application/octet-stream", length=None),
            b"\r\n--x",
            closing(boundary),
        )
    )


def test_parts_come_back_with_their_fields() -> None:
    boundary = new_boundary()
    reader = PartReader(boundary)
    events = list(reader.feed(body(boundary)))
    reader.finish()
    heads = [event.headers for event in events if isinstance(event, PartBegun)]
    assert heads == [
        {"content-type": "application/dicom", "content-length": "3", "content-location": "http://pacs/studies/1.2"},
        {"content-type": "application/octet-stream"},
    ]
    assert b"".join(bytes(event.data) for event in events if isinstance(event, PartData)) == b"abc\r\n--x"
    assert [type(event) for event in events].count(PartEnded) == 2
    assert isinstance(events[-1], BodyEnded)


def test_a_mail_parser_reads_it() -> None:
    boundary = new_boundary()
    message = email.message_from_bytes(
        b"Content-Type: multipart/related; boundary=%b\r\n" % boundary.encode() + body(boundary)
    )
    payloads = [part.get_payload(decode=True) for part in message.walk() if not part.is_multipart()]
    assert payloads == [b"abc", b"\r\n--x"]


def test_boundaries_differ() -> None:
    assert new_boundary() != new_boundary()
