"""What is read from a raw query string, and what is refused, in whose words (PS3.18 §8.3, dicom-facts A.2 and A.3)."""

from __future__ import annotations

import pytest

from router.dicom.attributes import attribute_path
from router.dicomweb.query_string import (
    MAX_BYTES,
    MAX_PARAMETERS,
    BadQuery,
    SearchParameters,
    read_accept,
    read_search,
)


def match_of(query: str) -> dict[str, str | tuple[str, ...]]:
    return {one.name: one.value for one in read_search(query.encode()).match}


def test_no_query_is_a_search_for_everything() -> None:
    assert read_search(b"") == SearchParameters()


@pytest.mark.parametrize(
    "name",
    [
        "PatientID",
        "00100020",
        "0020000d",
        "0020000D",
        "OtherPatientIDsSequence.00100020",
        "00400275.ScheduledProcedureStepID",
        "dBdt",
    ],
)
def test_req_032_attributes_are_named_by_keyword_tag_or_path(name: str) -> None:
    [one] = read_search(f"{name}=1".encode()).match
    assert (one.name, one.path, one.value) == (name, attribute_path(name), "1")


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("A+B", "A+B"),
        ("A%2BB", "A+B"),
        ("A%20B", "A B"),
        ("A%2CB", "A,B"),
        ("A%26B%3DC", "A&B=C"),
        ("a=b=c", "a=b=c"),
        ("%25%32%43", "%2C"),
        ("%E5%B1%B1%E7%94%B0", "山田"),
        ("", ""),
        ("*", "*"),
        ("a;b:c@d/e?f!g$h'i(j)", "a;b:c@d/e?f!g$h'i(j)"),
    ],
)
def test_a_value_is_split_first_and_decoded_once(raw: str, value: str) -> None:
    assert match_of(f"PatientName={raw}") == {"PatientName": value}


def test_an_attribute_without_a_value_matches_everything() -> None:
    assert match_of("PatientName&StudyDate=") == {"PatientName": "", "StudyDate": ""}


def test_a_list_of_uids_is_split_at_commas() -> None:
    assert match_of("StudyInstanceUID=1.2,1.3&SOPClassUID=1%2E4") == {
        "StudyInstanceUID": ("1.2", "1.3"),
        "SOPClassUID": "1.4",
    }


def test_several_values_need_multiplevaluematching() -> None:
    with pytest.raises(BadQuery, match="has 2 values") as caught:
        read_search(b"ModalitiesInStudy=CT,PT")
    assert "multiplevaluematching=true" in caught.value.allowed
    assert match_of("ModalitiesInStudy=CT,PT&multiplevaluematching=true") == {"ModalitiesInStudy": ("CT", "PT")}


def test_req_029_the_parameters_of_table_8_3_4_1_are_read() -> None:
    read = read_search(
        b"fuzzymatching=true&emptyvaluematching=true&multiplevaluematching=true&limit=10&offset=5"
        b"&includefield=StudyDescription,00080060&includefield=PatientSize"
    )
    assert (read.fuzzy, read.empty_value, read.multiple_value, read.limit, read.offset) == (True, True, True, 10, 5)
    assert read.include == tuple(map(attribute_path, ("StudyDescription", "Modality", "PatientSize")))


def test_includefield_all() -> None:
    read = read_search(b"includefield=all")
    assert (read.include, read.include_all) == ((), True)


@pytest.mark.parametrize("value", ["all", "StudyDate", "Nonsense", "%zz", "", ",,", "all,StudyDate"])
def test_req_030_a_send_request_ignores_includefield_even_malformed(value: str) -> None:
    query = f"PatientID=1&includefield={value}".encode()
    assert read_search(query, read_include=False) == read_search(b"PatientID=1", read_include=False)


def test_the_time_zone_is_an_option_and_not_matched() -> None:
    read = read_search(b"TimezoneOffsetFromUTC=+0100&StudyTime=10")
    assert (read.timezone_offset_min, [one.name for one in read.match]) == (60, ["StudyTime"])
    assert read_search(b"00080201=-0530").timezone_offset_min == -330
    assert read_search(b"TimezoneOffsetFromUTC").timezone_offset_min is None


def test_a_private_tag_comes_with_its_creator() -> None:
    assert match_of("00191002=x&00190010=ACME") == {"00191002": "x", "00190010": "ACME"}
    assert read_search(b"includefield=00191002&00190010=ACME").include == ((0x00191002,),)
    assert match_of("00191002.00211001=x&00190010=ACME&00191002.00210010=ACME 2".replace(" ", "%20"))


def test_destinations_are_decoded_once_and_all_told() -> None:
    read = read_search(b"destination=https%3A%2F%2Fpacs/stow&destination=a%252Fb,c")
    assert read.destination == ("https://pacs/stow", "a%2Fb", "c")
    assert read_search(b"destination").destination == ("",)


def test_unknown_names_are_ignored_and_those_meant_as_attributes_are_told() -> None:
    read = read_search(b"foo=1&x.y=2&_=123&PatientIdd=3&patientid=4&0010002=5&PatientName.PatientID=6&Patient%20ID=7")
    assert read.match == ()
    assert read.unknown == ("PatientIdd", "patientid", "0010002", "PatientName.PatientID", "Patient ID")


def test_names_of_parameters_are_case_sensitive() -> None:
    read = read_search(b"Limit=x&FuzzyMatching=y&LIMIT=z")
    assert (read.limit, read.fuzzy, read.unknown) == (None, False, ("Limit", "FuzzyMatching", "LIMIT"))


def test_accept_and_charset_are_decoded_with_plus_as_plus() -> None:
    query = b"accept=application/dicom+json,multipart%2Frelated;type=%22application/dicom%2Bxml%22&charset=utf-8"
    read = read_search(query)
    assert read.accept == 'application/dicom+json,multipart/related;type="application/dicom+xml"'
    assert read.charset == "utf-8"
    assert read_accept(query) == read.accept
    assert read_accept(b"") is None


def test_a_limit_beyond_all_bounds_is_as_good_as_none() -> None:
    read = read_search(b"limit=" + b"9" * 500 + b"&offset=" + b"9" * 500)
    assert read.limit == read.offset == 2**53


@pytest.mark.parametrize(
    ("query", "parameter", "says"),
    [
        (b"&", "", "empty parameter"),
        (b"PatientID=1&", "", "empty parameter"),
        (b"&&PatientID=1", "", "empty parameter"),
        (b"=1", "", "empty parameter"),
        (b"PatientID=1&PatientID=1", "PatientID", "given twice"),
        (b"PatientID=1&00100020=2", "00100020", "the same attribute as PatientID"),
        (b"limit=1&limit=1", "limit", "given twice"),
        (b"accept=a/b&accept=c/d", "accept", "given twice"),
        (b"limit=-1", "limit", "-1"),
        (b"limit=1.5", "limit", "1.5"),
        (b"limit=%D9%A3", "limit", "is '"),
        (b"limit", "limit", "no value"),
        (b"limit=", "limit", "no value"),
        (b"offset=x", "offset", "x"),
        (b"offset=1,2", "offset", "1,2"),
        (b"fuzzymatching=TRUE", "fuzzymatching", "TRUE"),
        (b"fuzzymatching", "fuzzymatching", "no value"),
        (b"emptyvaluematching=1", "emptyvaluematching", "1"),
        (b"multiplevaluematching=yes", "multiplevaluematching", "yes"),
        (b"includefield=", "includefield", "no value"),
        (b"includefield=all,StudyDate", "includefield", "besides all"),
        (b"includefield=all&includefield=StudyDate", "includefield", "besides all"),
        (b"includefield=StudyDat", "includefield", "did you mean StudyDate?"),
        (b"includefield=(0010,0020)", "includefield", "neither a keyword nor a tag"),
        (b"includefield=00191002", "00191002", "00190010"),
        (b"00191002=x", "00191002", "Private Creator"),
        (b"00191002=x&00190010=", "00191002", "Private Creator"),
        (b"00191002.00211001=x&00190010=A", "00191002.00211001", "00191002.00210010"),
        (b"00190002=x", "00190002", "no private attribute"),
        (b"TimezoneOffsetFromUTC=0100", "TimezoneOffsetFromUTC", "0100"),
        (b"TimezoneOffsetFromUTC=+9900", "TimezoneOffsetFromUTC", "+9900"),
        (b"PatientID=%zz", "PatientID", "%"),
        (b"PatientID=%2", "PatientID", "%"),
        (b"PatientID=%", "PatientID", "%"),
        (b"foo=%zz", "foo", "%"),
        (b"destination=%zz", "destination", "%"),
        (b"%zz=1", "A parameter's name", "%"),
        (b"PatientName=%C3%28", "PatientName", "not UTF-8"),
        (b"PatientName=%C0%AF", "PatientName", "not UTF-8"),
        (b"PatientName=%ED%A0%80", "PatientName", "not UTF-8"),
        (b"PatientName=M\xc3\xbcller", "PatientName", "percent-encoded"),
        (b"StudyInstanceUID=1.2%00", "StudyInstanceUID", "NUL"),
        (b"StudyInstanceUID=1.2,,1.3", "StudyInstanceUID", "empty value"),
        (b"StudyInstanceUID=1.2,", "StudyInstanceUID", "empty value"),
    ],
)
def test_req_046_what_cannot_be_meant_is_refused_with_its_name(query: bytes, parameter: str, says: str) -> None:
    with pytest.raises(BadQuery) as caught:
        read_search(query)
    assert caught.value.parameter == parameter
    assert says in caught.value.problem + caught.value.allowed
    assert not caught.value.too_long


@pytest.mark.parametrize(
    "query",
    [b"PatientName=" + b"x" * MAX_BYTES, b"&".join(b"a%d=1" % n for n in range(MAX_PARAMETERS + 1))],
)
def test_b55_a_query_has_a_longest_length(query: bytes) -> None:
    with pytest.raises(BadQuery) as caught:
        read_search(query)
    assert caught.value.too_long
    assert str(MAX_BYTES) in caught.value.allowed or str(MAX_PARAMETERS) in caught.value.allowed


def test_b55_includefield_has_a_largest_number() -> None:
    tags = b",".join(b"%08X" % (0x00280010 + n) for n in range(300))
    with pytest.raises(BadQuery, match="more than"):
        read_search(b"includefield=" + tags)
