"""Text by Specific Character Set, with the examples of PS3.5 Annexes H, I, J and K and files that carry them."""

from __future__ import annotations

import warnings

import pydicom
import pytest
from pydicom.data import get_charset_files

from router.dicom.charset import decode, unknown_terms

YAMADA = b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B"
YAMADA_KANA = b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J=\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J"
HONG = b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf"


@pytest.mark.parametrize(
    ("raw", "vr", "charsets", "text"),
    [
        (b"Mueller^Eva", "PN", (), "Mueller^Eva"),
        (b"M\xfcller^Eva", "PN", ("ISO_IR 100",), "Müller^Eva"),
        ("Müller^Eva".encode(), "PN", ("ISO_IR 192",), "Müller^Eva"),
        ("Люксембург".encode("iso8859_5"), "LO", ("ISO_IR 144",), "Люксембург"),
        (YAMADA, "PN", ("", "ISO 2022 IR 87"), "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (YAMADA_KANA, "PN", ("ISO 2022 IR 13", "ISO 2022 IR 87"), "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう"),
        (HONG, "PN", ("", "ISO 2022 IR 149"), "Hong^Gildong=洪^吉洞=홍^길동"),
        ("王^小东".encode("gb18030"), "PN", ("GB18030",), "王^小东"),
        ("王^小东".encode("gbk"), "PN", ("GBK",), "王^小东"),
        (b"Buc^J\x1b-Ar\xf4me", "PN", ("ISO 2022 IR 6", "ISO 2022 IR 100"), "Buc^Jrôme"),
        (
            b"\x1b-F\xc4\xe9\xef^\x1b-L\xbb\xee",
            "PN",
            ("ISO 2022 IR 100", "ISO 2022 IR 126", "ISO 2022 IR 144"),
            "Διο^Лю",
        ),
        (b"CT\xfc", "CS", ("ISO_IR 192",), "CTü"),
        (b"line 1\r\n\x1b[31m", "LT", (), "line 1\r\n\x1b[31m"),
    ],
)
def test_text_is_decoded_by_its_character_set(raw: bytes, vr: str, charsets: tuple[str, ...], text: str) -> None:
    assert decode(raw, vr, charsets) == text


def test_code_extension_ends_at_the_delimiter_of_a_name_component() -> None:
    raw = b"\x1b$)C\xfb\xf3^\xe9"
    assert decode(raw, "PN", ("", "ISO 2022 IR 149")) == "洪^é"
    assert decode(b"\x1b$)C\xfb\xf3\\\xe9", "LO", ("", "ISO 2022 IR 149")) == "洪\\é"


def test_second_byte_of_a_character_is_no_backslash() -> None:
    kanji_with_5c = b"\x1b$B\x30\x5c\x1b(B"
    assert decode(kanji_with_5c, "LO", ("", "ISO 2022 IR 87")) == kanji_with_5c.decode("iso2022_jp") != "\\"
    hanzi_with_5c = b"\x81\x5c"
    assert decode(hanzi_with_5c, "LO", ("GB18030",)) == hanzi_with_5c.decode("gb18030") != "\\"


@pytest.mark.parametrize("spelling", ["ISO-IR 100", "ISO IR 100", "iso_ir 100", "ISO_IR100", "ISO_IR 100 "])
def test_misspelt_character_set_is_understood(spelling: str) -> None:
    assert decode(b"M\xfcller", "PN", (spelling,)) == "Müller"
    assert unknown_terms((spelling,)) == ()


def test_b37_unknown_character_set_is_named_and_matches_nothing_but_ascii() -> None:
    assert unknown_terms(("ISO_IR 100", "KLINGON")) == ("KLINGON",)
    assert decode(b"M\xfcller", "PN", ("KLINGON",)) == "M�ller"


def test_b37_two_hundred_character_sets_are_no_trouble() -> None:
    charsets = tuple(f"ISO 2022 IR {number}" for number in range(200))
    assert decode(b"\x1b$B;3ED\x1b(B \xfc", "LO", charsets).startswith("山田 ")


@pytest.mark.parametrize(
    "charsets", [("", "ISO 2022 IR 87"), ("ISO 2022 IR 13",), ("ISO 2022 IR 149",), ("ISO_IR 192",)]
)
@pytest.mark.parametrize(
    "raw",
    [b"\x1b", b"\x1b$", b"\x1b$)", b"\x1b$B\x21", b"\x1b]0;x\x07\xff", b"\x0e\x0f\x1b$)C\xff", bytes(range(256)) * 3],
)
def test_b37_shift_out_garbage_never_raises(charsets: tuple[str, ...], raw: bytes) -> None:
    assert isinstance(decode(raw, "PN", charsets), str)


def test_b38_terminal_escapes_stay_as_they_are() -> None:
    assert decode(b"\x1b]0;owned\x07", "PN", ("", "ISO 2022 IR 87")) == "\x1b]0;owned\x07"


@pytest.mark.parametrize(
    "name",
    ["chrArab", "chrFren", "chrGerm", "chrGreek", "chrH31", "chrH32", "chrHbrw", "chrI2", "chrRuss", "chrX1", "chrX2"],
)
def test_names_in_real_files_read_as_pydicom_reads_them(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(get_charset_files(f"{name}.dcm")[0])
        expected = str(dataset.PatientName)
    raw = dataset.PatientName.original_string
    charsets = dataset.get("SpecificCharacterSet") or ""
    terms = (charsets,) if isinstance(charsets, str) else tuple(charsets)
    assert decode(raw, "PN", terms).rstrip("= ") == expected.rstrip("= ")
