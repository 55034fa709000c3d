"""Which representation a request gets (PS3.18 §8.7, dicom-facts A.5, O-14)."""

from __future__ import annotations

import pytest

from router.dicomweb.accept import (
    ANY_SYNTAX,
    DICOM_XML,
    MAX_CHARACTERS,
    OCTET_STREAM,
    MixedTypes,
    NotAcceptable,
    Offer,
    Range,
    choose,
    parse_accept,
)
from router.dicomweb.media_types import DICOM, DICOM_JSON

JSON, XML_PARTS, XML = Offer(DICOM_JSON), Offer(DICOM_XML, multipart=True), Offer(DICOM_XML)
SEARCH = (JSON, XML_PARTS)
SEND = (JSON, XML_PARTS, XML)

EXPLICIT, JPEG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.50"
FILES = Offer(DICOM, True, EXPLICIT)
AS_STORED = Offer(DICOM, True, ANY_SYNTAX)
AS_JPEG = Offer(DICOM, True, JPEG)
BULK = Offer(OCTET_STREAM, True)
RETRIEVE = (FILES, AS_STORED, AS_JPEG, BULK)


@pytest.mark.parametrize(
    ("header", "offer"),
    [
        ("application/dicom+json", JSON),
        ("Application/DICOM+JSON", JSON),
        ("application/json", JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        ("text/csv, */*;q=0.1", JSON),
        ('multipart/related; type="application/dicom+xml"', XML_PARTS),
        ("multipart/related; type=application/dicom+xml", XML_PARTS),
        ("multipart/related;TYPE=application/dicom+xml;boundary=x", XML_PARTS),
        ('multipart/related; type="application/*"', XML_PARTS),
        ('multipart/related; type="*/*"', XML_PARTS),
        ("multipart/related", XML_PARTS),
        ("multipart/*", XML_PARTS),
        ('application/dicom+json; charset="utf-8"', JSON),
        ("application/json, text/plain, */*", JSON),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8", JSON),
    ],
)
def test_a_search_is_answered_in_json_or_in_parts_of_xml(header: str, offer: Offer) -> None:
    assert choose(header, None, SEARCH) == offer


@pytest.mark.parametrize(
    ("header", "offer"),
    [
        ("application/dicom+xml", XML),
        ('multipart/related; type="application/dicom+xml", application/dicom+xml;q=0.5', XML_PARTS),
        ("application/*", JSON),
        ("application/json", JSON),
    ],
)
def test_a_module_may_be_xml_in_one_part(header: str, offer: Offer) -> None:
    assert choose(header, None, SEND) == offer


@pytest.mark.parametrize(
    ("header", "offer"),
    [
        ('application/dicom+json;q=0.5, multipart/related; type="application/dicom+xml"', XML_PARTS),
        ('application/dicom+json;q=0.501, multipart/related; type="application/dicom+xml";q=.5', JSON),
        ("application/dicom+json;q=0, */*", XML_PARTS),
        ('*/*;q=0.1, multipart/related; type="application/dicom+xml";q=0.2', XML_PARTS),
        (
            'application/*;q=0.9, application/dicom+json;q=0.1, multipart/related; type="application/dicom+xml";q=0.5',
            XML_PARTS,
        ),
        ('*/*, multipart/related; type="application/dicom+xml"', XML_PARTS),
        ('multipart/related; type="application/dicom+xml", application/dicom+json', JSON),
    ],
)
def test_the_quality_of_the_most_specific_range_counts(header: str, offer: Offer) -> None:
    assert choose(header, None, SEARCH) == offer


@pytest.mark.parametrize(
    ("header", "offer"),
    [
        ('multipart/related; type="application/dicom"', FILES),
        (f'multipart/related; type="application/dicom"; transfer-syntax={EXPLICIT}', FILES),
        (f'multipart/related; type="application/dicom"; transfer-syntax="{JPEG}"', AS_JPEG),
        ('multipart/related; type="application/dicom"; transfer-syntax=*', AS_STORED),
        (
            f'multipart/related; type="application/dicom"; transfer-syntax={JPEG};q=0.4, '
            f'multipart/related; type="application/dicom"; transfer-syntax={EXPLICIT};q=0.5',
            FILES,
        ),
        (
            f'multipart/related; type="application/dicom"; transfer-syntax={JPEG}, '
            'multipart/related; type="application/dicom"; transfer-syntax=*;q=0.2',
            AS_JPEG,
        ),
        (
            f'multipart/related; type="application/dicom"; transfer-syntax={JPEG};q=0, '
            'multipart/related; type="application/dicom"; transfer-syntax=*;q=0.2',
            AS_STORED,
        ),
        ('multipart/related; type="application/octet-stream"', BULK),
        ("multipart/related; type=application/octet-stream; transfer-syntax=*", BULK),
        ("*/*", FILES),
        ("multipart/related", FILES),
    ],
)
def test_the_transfer_syntax_is_a_parameter_of_the_media_type(header: str, offer: Offer) -> None:
    assert choose(header, None, RETRIEVE) == offer


def test_any_syntax_takes_the_first_offer_where_none_is_as_stored() -> None:
    assert choose("multipart/related; type=application/dicom; transfer-syntax=*", None, (AS_JPEG, FILES)) == AS_JPEG
    assert choose("multipart/related; type=application/dicom", None, (AS_JPEG, FILES)) == AS_JPEG


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        " ",
        ",,,",
        "text/csv",
        "application/dicom",
        "application/dicom+xml",
        "image/*",
        'multipart/related; type="application/dicom"',
        'multipart/related; type="application/dicom+json"',
        'multipart/form-data; type="application/dicom+xml"',
        "*/*;q=0",
        "*/*;q=-1",
        "*/*;q=2",
        "*/*;q=nan",
        "application/dicom+json;q=0",
        "json",
        "application/dicom+json; charset=",
        '"',
        '"application/dicom+json"',
        "*/" + "*" * MAX_CHARACTERS,
        "a/b," * 200 + "*/*",
    ],
)
def test_req_036_b65_b86_without_a_usable_accept_it_is_406_with_what_there_is(header: str | None) -> None:
    with pytest.raises(NotAcceptable) as caught:
        choose(header, None, SEARCH)
    assert caught.value.allowed == 'application/dicom+json, multipart/related; type="application/dicom+xml"'


def test_b86_application_dicom_alone_is_no_answer_to_a_send_request() -> None:
    with pytest.raises(NotAcceptable):
        choose("application/dicom", None, SEND)


def test_b65_broken_ranges_are_ignored_beside_good_ones() -> None:
    header = 'a, */*;q=x, "b, application/dicom+json", application/dicom+json;q=0.3;q=0.4, application/*;q=0.2'
    assert parse_accept(header) == (Range("application/*", quality=0.2),)
    assert choose(header, None, SEARCH) == JSON


def test_a_comma_in_quotes_does_not_end_a_range() -> None:
    assert parse_accept(r'a/b;c="x,\",y";q=0.5, c/d') == (Range("a/b", quality=0.5), Range("c/d"))


@pytest.mark.parametrize("rendered", ["image/jpeg", "image/png;q=0.2", "video/mp4", "text/html", "application/pdf"])
@pytest.mark.parametrize("dicom", ["application/dicom+json", 'multipart/related; type="application/dicom"'])
def test_dicom_and_rendered_media_types_do_not_mix(rendered: str, dicom: str) -> None:
    with pytest.raises(MixedTypes, match="at once"):
        choose(f"{dicom}, {rendered}", None, SEARCH)


@pytest.mark.parametrize(
    "header",
    [
        "application/dicom+json, image/jpeg;q=0",
        "application/dicom+json, image/*",
        'application/dicom+json, multipart/related; type="image/jpeg"',
        "application/dicom+json, image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.50",
    ],
)
def test_compressed_bulk_data_is_not_rendered(header: str) -> None:
    assert choose(header, None, SEARCH) == JSON


XML_TEXT = 'multipart/related; type="application/dicom+xml"'


@pytest.mark.parametrize(
    ("header", "parameter", "offer"),
    [
        ("*/*", XML_TEXT, XML_PARTS),
        (f"application/dicom+json, {XML_TEXT};q=0.1", XML_TEXT, XML_PARTS),
        ("application/dicom+json", XML_TEXT, JSON),
        ("*/*", "text/csv", JSON),
        ("*/*", "", JSON),
        ("*/*", "application/json", JSON),
        (f"application/dicom+json;q=0.1, {XML_TEXT}", "*/*", XML_PARTS),
        (f"application/dicom+json;q=0.1, {XML_TEXT}", "application/*", XML_PARTS),
    ],
)
def test_the_accept_parameter_goes_before_the_header_as_far_as_that_allows(
    header: str, parameter: str, offer: Offer
) -> None:
    assert choose(header, parameter, SEARCH) == offer


def test_the_accept_parameter_does_not_replace_the_header() -> None:
    with pytest.raises(NotAcceptable, match="no Accept header"):
        choose(None, "application/dicom+json", SEARCH)
