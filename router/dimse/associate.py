"""A-ASSOCIATE-RQ and -AC, read (PS3.8 §9.3.2, §9.3.3, PS3.7 §D.3.3); `associate_writer.py` writes them.

A walk over the items of our own, bounded before anything is built: pynetdicom's decoders raise on even context ids,
unknown items and odd implementation UIDs, which occur in the field, and misread an identity without primary field.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from router.dicom.uids import AETitle, Uid
from router.dimse.events import AssociateAccepted, AssociateRequest, NegotiatedContext, ProposedContext, UserIdentity
from router.dimse.negotiation import ACCEPTED, NOT_ANSWERED, TRANSFER_SYNTAXES_REFUSED
from router.dimse.pdata import MIN_PDU_BYTES
from router.dimse.pdu import INVALID_PARAMETER
from router.errors import PeerError

MAX_CONTEXTS = 128  # what odd one-byte ids leave room for
MAX_TRANSFER_SYNTAXES = 64  # of one context; more than the standard has, further ones are ignored (B4)
MAX_ITEMS = 4_096  # items and sub-items of one PDU: 128 contexts of 30 transfer syntaxes fit (B3)
MAX_IDENTITY_BYTES = 16_384  # of each user identity field: a Kerberos ticket or SAML assertion fits (B15)
UNSAID_MAX_PDU_BYTES = 16_384  # what we send at most to a peer that left out its required maximum length (B13)
MAX_VERSION_CHARACTERS = 16

APPLICATION_CONTEXT_ITEM = 0x10
PROPOSED_CONTEXT_ITEM = 0x20
ANSWERED_CONTEXT_ITEM = 0x21
ABSTRACT_SYNTAX_ITEM = 0x30
TRANSFER_SYNTAX_ITEM = 0x40
USER_INFORMATION_ITEM = 0x50
_MAXIMUM_LENGTH = 0x51
_IMPLEMENTATION_CLASS = 0x52
_OPERATIONS_WINDOW = 0x53
_IMPLEMENTATION_VERSION = 0x55
_USER_IDENTITY = 0x58

HEAD_BYTES = 68  # protocol version, AE titles, reserved: what comes before the items
AE_TITLES = slice(4, 68)  # called, calling, reserved: an A-ASSOCIATE-AC repeats these bytes
_CALLED, _CALLING = slice(4, 20), slice(20, 36)
_ITEM_HEAD = struct.Struct(">BxH")
_CONTEXT_HEAD = struct.Struct(">BxBx")  # id; result in an answer, reserved in a proposal
_PROTOCOL_VERSION_1 = 0x0001
_IDENTITY_KINDS = range(1, 6)  # user name, with passcode, Kerberos, SAML, JWT
_IDENTITY_WITH_SECONDARY = 2


class Unacceptable(PeerError):
    """A well-formed request that is answered with this A-ASSOCIATE-RJ, whatever the policy (PS3.8 Table 9-21)."""

    def __init__(self, problem: str, result: int, source: int, reason: int):
        super().__init__(problem)
        self.result, self.source, self.reason = result, source, reason


def decode_request(body: bytes) -> AssociateRequest:
    """Decode the body of an A-ASSOCIATE-RQ.

    Context ids are taken as they are, even ones too: a storage commitment SCU in wide use sends 2, and its answer must
    carry 2. Only 0 and repeated ids are refused. Raises Unacceptable (B8, B15), or PeerError with abort reason 6.
    """
    _check_head(body)
    if not _short(body, 0) & _PROTOCOL_VERSION_1:
        raise Unacceptable(f"protocol version {_short(body, 0):04X}H, only version 1 is known", 1, 2, 2)
    walk = _Walk(body)
    application_context = Uid("")
    contexts: dict[int, ProposedContext] = {}
    user = _UserInformation()
    for kind, start, end in walk.items(HEAD_BYTES, len(body)):
        if kind == APPLICATION_CONTEXT_ITEM:
            application_context = _uid(body[start:end])
        elif kind == PROPOSED_CONTEXT_ITEM:
            context = _proposed_context(walk, start, end)
            _check_id(context.context_id, contexts)
            contexts[context.context_id] = context
        elif kind == USER_INFORMATION_ITEM:
            user.read(walk, start, end)
    return AssociateRequest(
        called_aet=_ae_title(body[_CALLED]),
        calling_aet=_ae_title(body[_CALLING]),
        application_context=application_context,
        protocol_version=_short(body, 0),
        contexts=tuple(contexts.values()),
        max_pdu_bytes=user.max_pdu_bytes,
        implementation_class_uid=user.implementation_class_uid,
        implementation_version=user.implementation_version,
        user_identity=user.identity,
        max_operations_invoked=user.max_operations_invoked,
    )


def decode_answer(body: bytes, proposed: Sequence[ProposedContext]) -> AssociateAccepted:
    """Decode the body of an A-ASSOCIATE-AC; every proposed context comes back once, in the order proposed.

    A context not answered gets result 2; one accepted in a transfer syntax that we did not propose gets 4, for it
    cannot be used. Raises PeerError with abort reason 6.
    """
    _check_head(body)
    walk = _Walk(body)
    answers: dict[int, tuple[int, Uid]] = {}
    user = _UserInformation()
    for kind, start, end in walk.items(HEAD_BYTES, len(body)):
        if kind == ANSWERED_CONTEXT_ITEM:
            context_id, result, transfer_syntax = _answered_context(walk, start, end)
            _check_id(context_id, answers)
            answers[context_id] = result, transfer_syntax
        elif kind == USER_INFORMATION_ITEM:
            user.read(walk, start, end)
    contexts = []
    for context in proposed:
        result, transfer_syntax = answers.get(context.context_id, (NOT_ANSWERED, Uid("")))
        if result == ACCEPTED and transfer_syntax not in context.transfer_syntaxes:
            result = TRANSFER_SYNTAXES_REFUSED
        if result != ACCEPTED:
            transfer_syntax = Uid("")
        contexts.append(NegotiatedContext(context.context_id, context.abstract_syntax, transfer_syntax, result))
    return AssociateAccepted(tuple(contexts), user.max_pdu_bytes)


class _Walk:
    """Items within items, at most MAX_ITEMS of them in the whole PDU."""

    def __init__(self, body: bytes):
        self.body = body
        self._left = MAX_ITEMS

    def items(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Yield type, start and end of each item in body[start:end]."""
        while start < end:
            if end - start < _ITEM_HEAD.size:
                raise PeerError("association item cut short", INVALID_PARAMETER)
            kind, length = _ITEM_HEAD.unpack_from(self.body, start)
            start += _ITEM_HEAD.size
            if start + length > end:
                raise PeerError(f"association item {kind:02X}H of {length} bytes runs over the end", INVALID_PARAMETER)
            self._left -= 1
            if self._left < 0:
                raise PeerError(f"more than {MAX_ITEMS} items in an association PDU", INVALID_PARAMETER)
            yield kind, start, start + length
            start += length


class _UserInformation:
    """What we read of the user information; sub-items that we do not know or do not negotiate are skipped."""

    def __init__(self) -> None:
        self.max_pdu_bytes = UNSAID_MAX_PDU_BYTES
        self.implementation_class_uid = Uid("")
        self.implementation_version = ""
        self.max_operations_invoked = 1
        self.identity: UserIdentity | None = None

    def read(self, walk: _Walk, start: int, end: int) -> None:
        for kind, at, until in walk.items(start, end):
            value = walk.body[at:until]
            if kind == _MAXIMUM_LENGTH:
                self.max_pdu_bytes = _maximum_length(value)
            elif kind == _IMPLEMENTATION_CLASS:
                self.implementation_class_uid = _uid(value)
            elif kind == _IMPLEMENTATION_VERSION:
                self.implementation_version = _text(value)[:MAX_VERSION_CHARACTERS]
            elif kind == _OPERATIONS_WINDOW:
                if len(value) != 4:
                    raise PeerError(f"asynchronous operations window of {len(value)} bytes", INVALID_PARAMETER)
                self.max_operations_invoked = _short(value, 0)
            elif kind == _USER_IDENTITY:
                self.identity = _user_identity(value)


def _proposed_context(walk: _Walk, start: int, end: int) -> ProposedContext:
    context_id, _ = _context_head(walk, start, end)
    abstract_syntax = Uid("")
    transfer_syntaxes: list[Uid] = []
    for kind, at, until in walk.items(start + _CONTEXT_HEAD.size, end):
        if kind == ABSTRACT_SYNTAX_ITEM:
            abstract_syntax = abstract_syntax or _uid(walk.body[at:until])
        elif kind == TRANSFER_SYNTAX_ITEM and len(transfer_syntaxes) < MAX_TRANSFER_SYNTAXES:
            transfer_syntaxes.append(_uid(walk.body[at:until]))
    return ProposedContext(context_id, abstract_syntax, tuple(transfer_syntaxes))


def _answered_context(walk: _Walk, start: int, end: int) -> tuple[int, int, Uid]:
    context_id, result = _context_head(walk, start, end)
    transfer_syntax = Uid("")
    for kind, at, until in walk.items(start + _CONTEXT_HEAD.size, end):
        if kind == TRANSFER_SYNTAX_ITEM:
            transfer_syntax = transfer_syntax or _uid(walk.body[at:until])
    return context_id, result, transfer_syntax


def _context_head(walk: _Walk, start: int, end: int) -> tuple[int, int]:
    if end - start < _CONTEXT_HEAD.size:
        raise PeerError(f"presentation context item of {end - start} bytes", INVALID_PARAMETER)
    context_id, result = _CONTEXT_HEAD.unpack_from(walk.body, start)
    return context_id, result


def _user_identity(value: bytes) -> UserIdentity:
    if len(value) < 4:
        raise PeerError(f"user identity of {len(value)} bytes", INVALID_PARAMETER)
    kind, answer_requested, size = value[0], value[1], _short(value, 2)
    primary, rest = value[4 : 4 + size], value[4 + size :]
    if len(primary) < size:
        raise PeerError("user identity primary field runs over the end", INVALID_PARAMETER)
    secondary = b""
    if kind == _IDENTITY_WITH_SECONDARY:
        if len(rest) < 2 or len(rest) - 2 < _short(rest, 0):
            raise PeerError("user identity secondary field runs over the end", INVALID_PARAMETER)
        secondary = rest[2 : 2 + _short(rest, 0)]
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


def _check_head(body: bytes) -> None:
    if len(body) < HEAD_BYTES:
        raise PeerError(f"association PDU of {len(body)} bytes", INVALID_PARAMETER)


def _check_id(context_id: int, seen: dict[int, ProposedContext] | dict[int, tuple[int, Uid]]) -> None:
    if context_id == 0 or context_id in seen:
        raise PeerError(f"presentation context id {context_id} is zero or repeated", INVALID_PARAMETER)
    if len(seen) == MAX_CONTEXTS:
        raise PeerError(f"more than {MAX_CONTEXTS} presentation contexts", INVALID_PARAMETER)


def _short(value: bytes, at: int) -> int:
    return value[at] << 8 | value[at + 1]


def _uid(value: bytes) -> Uid:
    # UIDs are not padded here, yet some peers do; Latin-1 decodes anything, and what is no UID is never accepted.
    return Uid(_text(value.rstrip(b"\0 ")))


def _text(value: bytes) -> str:
    text = value.decode("latin-1")
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def _ae_title(value: bytes) -> AETitle:
    return AETitle(value.decode("latin-1").strip(" "))
