"""A-ASSOCIATE-RQ and -AC, read (PS3.8 §9.3.2, §9.3.3, PS3.7 §D.3.3); `associate_writer.py` writes them.

A walk over the items of our own, bounded before anything is built: pynetdicom's decoders raise on even context ids,
unknown items and odd implementation UIDs, which occur in the field, and misread an identity without primary field.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from router.dicom.uids import AETitle, Uid
from router.dimse.events import AssociateAccepted, AssociateRequest, NegotiatedContext, ProposedContext
from router.dimse.items import (
    ABSTRACT_SYNTAX_ITEM,
    ANSWERED_CONTEXT_ITEM,
    APPLICATION_CONTEXT_ITEM,
    PROPOSED_CONTEXT_ITEM,
    TRANSFER_SYNTAX_ITEM,
    USER_INFORMATION_ITEM,
    Unacceptable,
    Walk,
    short,
    uid,
)
from router.dimse.negotiation import ACCEPTED, NOT_ANSWERED, TRANSFER_SYNTAXES_REFUSED
from router.dimse.pdu import INVALID_PARAMETER
from router.dimse.user_information import UserInformation
from router.errors import PeerError

MAX_CONTEXTS = 128  # what odd one-byte ids leave room for
MAX_TRANSFER_SYNTAXES = 64  # of one context; more than the standard has, further ones are ignored (B4)

HEAD_BYTES = 68  # protocol version, AE titles, reserved: what comes before the items
AE_TITLES = slice(4, 68)  # called, calling, reserved: an A-ASSOCIATE-AC repeats these bytes
_CALLED, _CALLING = slice(4, 20), slice(20, 36)
_CONTEXT_HEAD = struct.Struct(">BxBx")  # id; result in an answer, reserved in a proposal
_PROTOCOL_VERSION_1 = 0x0001


def decode_request(body: bytes) -> AssociateRequest:
    """Decode the body of an A-ASSOCIATE-RQ.

    Context ids are taken as they are, even ones too: a storage commitment SCU in wide use sends 2, and its answer must
    carry 2. Only 0 and repeated ids are refused. Raises Unacceptable (B8, B15), or PeerError with abort reason 6.
    """
    _check_head(body)
    if not short(body, 0) & _PROTOCOL_VERSION_1:
        raise Unacceptable(f"protocol version {short(body, 0):04X}H, only version 1 is known", 1, 2, 2)
    walk = Walk(body)
    application_context = Uid("")
    contexts: dict[int, ProposedContext] = {}
    user = UserInformation()
    for kind, start, end in walk.items(HEAD_BYTES, len(body)):
        if kind == APPLICATION_CONTEXT_ITEM:
            application_context = uid(body[start:end])
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
        protocol_version=short(body, 0),
        contexts=tuple(contexts.values()),
        max_pdu_bytes=user.max_pdu_bytes,
        implementation_class_uid=user.implementation_class_uid,
        implementation_version=user.implementation_version,
        user_identity=user.identity,
        max_operations_invoked=user.max_operations_invoked,
        roles=user.roles,
        extended=user.extended,
    )


def decode_answer(body: bytes, proposed: Sequence[ProposedContext]) -> AssociateAccepted:
    """Decode the body of an A-ASSOCIATE-AC; every proposed context comes back once, in the order proposed.

    A context not answered gets result 2; one accepted in a transfer syntax that we did not propose gets 4, for it
    cannot be used. Roles and application information are as the peer says, proposed or not. Raises PeerError with
    abort reason 6.
    """
    _check_head(body)
    walk = Walk(body)
    answers: dict[int, tuple[int, Uid]] = {}
    user = UserInformation()
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
    return AssociateAccepted(tuple(contexts), user.max_pdu_bytes, user.roles, user.extended)


def _proposed_context(walk: Walk, start: int, end: int) -> ProposedContext:
    context_id, _ = _context_head(walk, start, end)
    abstract_syntax = Uid("")
    transfer_syntaxes: list[Uid] = []
    for kind, at, until in walk.items(start + _CONTEXT_HEAD.size, end):
        if kind == ABSTRACT_SYNTAX_ITEM:
            abstract_syntax = abstract_syntax or uid(walk.body[at:until])
        elif kind == TRANSFER_SYNTAX_ITEM and len(transfer_syntaxes) < MAX_TRANSFER_SYNTAXES:
            transfer_syntaxes.append(uid(walk.body[at:until]))
    return ProposedContext(context_id, abstract_syntax, tuple(transfer_syntaxes))


def _answered_context(walk: Walk, start: int, end: int) -> tuple[int, int, Uid]:
    context_id, result = _context_head(walk, start, end)
    transfer_syntax = Uid("")
    for kind, at, until in walk.items(start + _CONTEXT_HEAD.size, end):
        if kind == TRANSFER_SYNTAX_ITEM:
            transfer_syntax = transfer_syntax or uid(walk.body[at:until])
    return context_id, result, transfer_syntax


def _context_head(walk: Walk, start: int, end: int) -> tuple[int, int]:
    if end - start < _CONTEXT_HEAD.size:
        raise PeerError(f"presentation context item of {end - start} bytes", INVALID_PARAMETER)
    context_id, result = _CONTEXT_HEAD.unpack_from(walk.body, start)
    return context_id, result


def _check_head(body: bytes) -> None:
    if len(body) < HEAD_BYTES:
        raise PeerError(f"association PDU of {len(body)} bytes", INVALID_PARAMETER)


def _check_id(context_id: int, seen: dict[int, ProposedContext] | dict[int, tuple[int, Uid]]) -> None:
    if context_id == 0 or context_id in seen:
        raise PeerError(f"presentation context id {context_id} is zero or repeated", INVALID_PARAMETER)
    if len(seen) == MAX_CONTEXTS:
        raise PeerError(f"more than {MAX_CONTEXTS} presentation contexts", INVALID_PARAMETER)


def _ae_title(value: bytes) -> AETitle:
    return AETitle(value.decode("latin-1").strip(" "))
