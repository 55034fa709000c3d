"""Content-Type values as clients write them."""

from __future__ import annotations

import pytest

from router.dicomweb.media_types import MediaType, multipart_related, parse_media_type
from router.errors import PeerError


@pytest.mark.parametrize(
    "text",
    [
        'multipart/related; type="application/dicom"; boundary=abc',
        "multipart/related; type=application/dicom; boundary=abc",
        'Multipart/Related;TYPE="application/dicom";Boundary="abc"',
        ' multipart/related ; type = application/dicom ;; boundary="a\\bc" ; ',
    ],
)
def test_type_is_read_with_and_without_quotes(text: str) -> None:
    assert parse_media_type(text) == MediaType("multipart/related", {"type": "application/dicom", "boundary": "abc"})


def test_a_quoted_value_may_hold_any_character() -> None:
    assert parse_media_type('a/b; c="x;y=\\"z\\", "').parameters == {"c": 'x;y="z", '}


def test_what_we_write_we_read() -> None:
    parsed = parse_media_type(multipart_related("application/dicom", "b1"))
    assert parsed == MediaType("multipart/related", {"type": "application/dicom", "boundary": "b1"})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "dicom",
        "/",
        "a/",
        "a/b c",
        "a/b; c",
        'a/b; c="x',
        "a/b; c=",
        "a/b; c=x; C=y",
        "a/b; boundary=1, a/c",
        "a/b;" + "c" * 1100,
        "ü/b",
    ],
)
def test_b57_what_is_no_media_type_is_a_peer_error(text: str) -> None:
    with pytest.raises(PeerError):
        parse_media_type(text)
