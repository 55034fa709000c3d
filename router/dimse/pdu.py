"""PDU types, how long each may be before it is read, and the PDUs of fixed form (PS3.8 §9.3).

Also names what is not DICOM at all when it knocks on a DICOM port.
"""

from __future__ import annotations

import struct

ASSOCIATE_RQ = 0x01
ASSOCIATE_AC = 0x02
ASSOCIATE_RJ = 0x03
P_DATA_TF = 0x04
RELEASE_RQ = 0x05
RELEASE_RP = 0x06
ABORT = 0x07

HEADER = struct.Struct(">BxI")  # PDU type, length of what follows
HEADER_BYTES = HEADER.size
MAX_ASSOCIATE_BYTES = 65_536  # what an unknown peer may make us hold; 128 contexts of 16 transfer syntaxes fit
FIXED_BODY_BYTES = 4

NAMES = {
    ASSOCIATE_RQ: "A-ASSOCIATE-RQ",
    ASSOCIATE_AC: "A-ASSOCIATE-AC",
    ASSOCIATE_RJ: "A-ASSOCIATE-RJ",
    P_DATA_TF: "P-DATA-TF",
    RELEASE_RQ: "A-RELEASE-RQ",
    RELEASE_RP: "A-RELEASE-RP",
    ABORT: "A-ABORT",
}

# A-ABORT (PS3.8 Table 9-26)
SOURCE_USER = 0
SOURCE_PROVIDER = 2
UNRECOGNISED_PDU = 1
UNEXPECTED_PDU = 2
INVALID_PARAMETER = 6

RELEASE_RQ_PDU = bytes((RELEASE_RQ, 0, 0, 0, 0, 4, 0, 0, 0, 0))
RELEASE_RP_PDU = bytes((RELEASE_RP, 0, 0, 0, 0, 4, 0, 0, 0, 0))

# The first six bytes of those who took the DICOM port for another (B5, B6).
_STRANGERS = (
    (b"\x16\x03", "TLS ClientHello on a plain DICOM port: switch TLS off at the peer"),
    (b"\x15\x03", "TLS alert on a plain DICOM connection: the peer's port speaks TLS"),
    *(
        (method, "HTTP on a DICOM port")
        for method in (b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE", b"OPTION", b"PATCH ")
    ),
    *((method, "HTTP on a DICOM port") for method in (b"CONNEC", b"TRACE ", b"PRI * ", b"HTTP/")),
)


def name_stranger(header: bytes) -> str | None:
    """Say what a connection's first six bytes belong to, when it is a protocol that people mix up with DICOM."""
    for prefix, mistake in _STRANGERS:
        if header.startswith(prefix):
            return mistake
    return None


def encode_reject(result: int, source: int, reason: int) -> bytes:
    """Encode an A-ASSOCIATE-RJ (PS3.8 §9.3.4)."""
    return bytes((ASSOCIATE_RJ, 0, 0, 0, 0, 4, 0, result, source, reason))


def encode_abort(source: int, reason: int) -> bytes:
    """Encode an A-ABORT (PS3.8 §9.3.8)."""
    return bytes((ABORT, 0, 0, 0, 0, 4, 0, 0, source, reason))
