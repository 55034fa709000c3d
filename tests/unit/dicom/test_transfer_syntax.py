"""What is known of a transfer syntax from its UID."""

from __future__ import annotations

import pytest

from router.dicom.transfer_syntax import (
    is_big_endian,
    is_deflated,
    is_implicit,
    is_web_transferable,
    name_of,
)
from router.dicom.uids import Uid

#            implicit, big endian, deflated, web
FACTS = {
    "1.2.840.10008.1.2": (True, False, False, False),
    "1.2.840.10008.1.2.1": (False, False, False, True),
    "1.2.840.10008.1.2.2": (False, True, False, False),
    "1.2.840.10008.1.2.1.98": (False, False, False, True),
    "1.2.840.10008.1.2.1.99": (False, False, True, True),
    "1.2.840.10008.1.2.4.50": (False, False, False, True),
    "1.2.840.10008.1.2.4.94": (False, False, False, True),
    "1.2.840.10008.1.2.4.95": (False, False, True, True),
    "1.2.840.10008.1.2.4.110": (False, False, False, True),
    "1.2.840.10008.1.2.4.201": (False, False, False, True),
    "1.2.840.10008.1.2.4.205": (False, False, True, True),
    "1.2.840.10008.1.2.5": (False, False, False, True),
    "1.2.840.10008.1.2.8.1": (False, False, False, True),
    "1.2.3.4.5": (False, False, False, True),
}

JPIP_DEFLATED = ("1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205")
"""Deflated as well (PS3.5 §A.6 and §A.20), which pydicom does not say."""


@pytest.mark.parametrize("uid", FACTS)
def test_transfer_syntax_tells_how_the_data_set_is_encoded(uid: str) -> None:
    syntax = Uid(uid)
    questions = (is_implicit, is_big_endian, is_deflated, is_web_transferable)
    assert tuple(ask(syntax) for ask in questions) == FACTS[uid]


def test_agrees_with_pydicom_on_every_syntax_that_it_knows() -> None:
    from pydicom.uid import AllTransferSyntaxes

    for known in AllTransferSyntaxes:
        uid = Uid(known)
        assert is_implicit(uid) == known.is_implicit_VR, known.name
        assert is_big_endian(uid) == (not known.is_little_endian), known.name
        assert is_deflated(uid) == (known.is_deflated or uid in JPIP_DEFLATED), known.name


def test_syntax_has_a_name_for_people() -> None:
    assert name_of(Uid("1.2.840.10008.1.2.1")) == "Explicit VR Little Endian"
    assert name_of(Uid("1.2.840.10008.1.2.4.110")) == "JPEG XL Lossless"
    assert name_of(Uid("1.2.3")) == "1.2.3"
    assert name_of(Uid("1.2.840.10008.5.1.4.1.1.2")) == "1.2.840.10008.5.1.4.1.1.2"
