"""The user information of A-ASSOCIATE-RQ and -AC, read (PS3.8 Annex D, PS3.7 §D.3.3)."""

from __future__ import annotations

from router.dicom.uids import Uid
from router.dimse.events import Roles, UserIdentity
from router.dimse.items import (
    EXTENDED_NEGOTIATION_ITEM,
    IMPLEMENTATION_CLASS_ITEM,
    IMPLEMENTATION_VERSION_ITEM,
    MAXIMUM_LENGTH_ITEM,
    OPERATIONS_WINDOW_ITEM,
    ROLE_SELECTION_ITEM,
    USER_IDENTITY_ITEM,
    Unacceptable,
    Walk,
    short,
    text_of,
    uid,
)
from router.dimse.pdata import MIN_PDU_BYTES
from router.dimse.pdu import INVALID_PARAMETER
from router.errors import PeerError

MAX_IDENTITY_BYTES = 16_384  # of each user identity field: a Kerberos ticket or SAML assertion fits (B15)
UNSAID_MAX_PDU_BYTES = 16_384  # what we send at most to a peer that left out its required maximum length (B13)
MAX_VERSION_CHARACTERS = 16

_IDENTITY_KINDS = range(1, 6)  # user name, with passcode, Kerberos, SAML, JWT
_IDENTITY_WITH_SECONDARY = 2
_ROLE_BYTES = 2


class UserInformation:
    """What we read of the user information; sub-items that we do not know or do not negotiate are skipped.

    Of several role selections or application informations for one SOP class the first counts.
    """

    def __init__(self) -> None:
        self.max_pdu_bytes = UNSAID_MAX_PDU_BYTES
        self.implementation_class_uid = Uid("")
        self.implementation_version = ""
        self.max_operations_invoked = 1
        self.identity: UserIdentity | None = None
        self.roles: dict[Uid, Roles] = {}
        self.extended: dict[Uid, bytes] = {}

    def read(self, walk: Walk, start: int, end: int) -> None:
        """Read the sub-items in `walk.body[start:end]`. Raises PeerError with abort reason 6, Unacceptable (B15)."""
        for kind, at, until in walk.items(start, end):
            value = walk.body[at:until]
            if kind == MAXIMUM_LENGTH_ITEM:
                self.max_pdu_bytes = _maximum_length(value)
            elif kind == IMPLEMENTATION_CLASS_ITEM:
                self.implementation_class_uid = uid(value)
            elif kind == IMPLEMENTATION_VERSION_ITEM:
                self.implementation_version = text_of(value)[:MAX_VERSION_CHARACTERS]
            elif kind == OPERATIONS_WINDOW_ITEM:
                if len(value) != 4:
                    raise PeerError(f"asynchronous operations window of {len(value)} bytes", INVALID_PARAMETER)
                self.max_operations_invoked = short(value, 0)
            elif kind == ROLE_SELECTION_ITEM:
                sop_class, roles = _split(value, "role selection")
                if len(roles) != _ROLE_BYTES:
                    raise PeerError(f"role selection with {len(roles)} bytes of roles", INVALID_PARAMETER)
                self.roles.setdefault(sop_class, Roles(roles[0] == 1, roles[1] == 1))
            elif kind == EXTENDED_NEGOTIATION_ITEM:
                sop_class, application_information = _split(value, "SOP class extended negotiation")
                self.extended.setdefault(sop_class, application_information)
            elif kind == USER_IDENTITY_ITEM:
                self.identity = _user_identity(value)


def _split(value: bytes, what: str) -> tuple[Uid, bytes]:
    """Split a sub-item that begins with the length of a SOP Class UID and that UID."""
    if len(value) < 2 or len(value) - 2 < short(value, 0):
        raise PeerError(f"SOP Class UID of {what} runs over the end", INVALID_PARAMETER)
    end = 2 + short(value, 0)
    return uid(value[2:end]), value[end:]


def _user_identity(value: bytes) -> UserIdentity:
    if len(value) < 4:
        raise PeerError(f"user identity of {len(value)} bytes", INVALID_PARAMETER)
    kind, answer_requested, size = value[0], value[1], short(value, 2)
    primary, rest = value[4 : 4 + size], value[4 + size :]
    if len(primary) < size:
        raise PeerError("user identity primary field runs over the end", INVALID_PARAMETER)
    secondary = b""
    if kind == _IDENTITY_WITH_SECONDARY:
        if len(rest) < 2 or len(rest) - 2 < short(rest, 0):
            raise PeerError("user identity secondary field runs over the end", INVALID_PARAMETER)
        secondary = rest[2 : 2 + short(rest, 0)]
    if kind not in _IDENTITY_KINDS:
        raise Unacceptable(f"user identity of unknown type {kind}", 1, 1, 1)
    if max(size, len(secondary)) > MAX_IDENTITY_BYTES:
        raise Unacceptable(f"user identity of more than {MAX_IDENTITY_BYTES} bytes", 1, 1, 1)
    return UserIdentity(kind, primary, secondary, answer_requested != 0)


def _maximum_length(value: bytes) -> int:
    if len(value) != 4:
        raise PeerError(f"maximum length of {len(value)} bytes", INVALID_PARAMETER)
    length = int.from_bytes(value, "big")
    if 0 < length < MIN_PDU_BYTES:
        raise PeerError(f"maximum length {length} leaves no room for a PDV", INVALID_PARAMETER)
    return length
