"""Query strings and Accept headers of any kind: read or refused in our own words, nothing else (B55, B65)."""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import quote

from hypothesis import example, given
from hypothesis import strategies as st

from router.dicomweb.accept import DICOM_XML, MixedTypes, NotAcceptable, Offer, choose, parse_accept
from router.dicomweb.media_types import DICOM, DICOM_JSON
from router.dicomweb.query_string import BadQuery, read_search

OFFERS = (
    Offer(DICOM_JSON),
    Offer(DICOM_XML, multipart=True),
    Offer(DICOM, True, "1.2.840.10008.1.2.1"),
    Offer(DICOM, True, "*"),
)
HEADERS = st.text('aq=;,*/.01"\\ +-', max_size=80) | st.lists(
    st.sampled_from(
        ["*/*", "application/*", DICOM_JSON, 'multipart/related; type="application/dicom+xml"', "image/jpeg", "a/b"]
    ).flatmap(lambda name: st.floats(0, 1).map(lambda q: f"{name};q={q:.3f}"))
).map(",".join)


@given(st.binary(max_size=300) | st.text("&=,%+.aPI0123456789dx", max_size=200).map(str.encode))
def test_any_query_string_is_read_or_refused(query: bytes) -> None:
    with suppress(BadQuery):
        read = read_search(query)
        assert len({one.path for one in read.match}) == len(read.match)


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=60))
@example("+ %2B,&=")
def test_an_encoded_value_comes_back_as_it_was(value: str) -> None:
    [one] = read_search(f"PatientName={quote(value, safe='')}".encode()).match
    assert one.value == value


@given(HEADERS, st.none() | HEADERS)
def test_b65_any_accept_is_answered_with_an_offer_that_it_wants_or_refused(header: str, parameter: str | None) -> None:
    try:
        offer = choose(header, parameter, OFFERS)
    except (NotAcceptable, MixedTypes):
        return
    assert offer in OFFERS
    assert any(one.quality > 0 for one in parse_accept(header))
