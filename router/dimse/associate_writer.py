"""A-ASSOCIATE-RQ and -AC, written (PS3.8 §9.3.2, §9.3.3).

pynetdicom's items encode what is ours: application context and user information. Presentation contexts carry the UIDs
of others, which its items warn about or refuse, so these few bytes are written here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence

from pynetdicom.pdu_items import (
    ApplicationContextItem,
    AsynchronousOperationsWindowSubItem,
    ImplementationClassUIDSubItem,
    ImplementationVersionNameSubItem,
    MaximumLengthSubItem,
    UserIdentitySubItemAC,
)

from router.dicom.uids import APPLICATION_CONTEXT, IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, AETitle, Uid
from router.dimse.associate import MAX_CONTEXTS
from router.dimse.events import NegotiatedContext, ProposedContext, Roles
from router.dimse.items import (
    ABSTRACT_SYNTAX_ITEM,
    ANSWERED_CONTEXT_ITEM,
    EXTENDED_NEGOTIATION_ITEM,
    PROPOSED_CONTEXT_ITEM,
    ROLE_SELECTION_ITEM,
    TRANSFER_SYNTAX_ITEM,
    USER_INFORMATION_ITEM,
    encode_item,
)
from router.dimse.negotiation import NO_ROLES, NOTHING_EXTENDED
from router.dimse.pdu import ASSOCIATE_AC, ASSOCIATE_RQ, HEADER

_HEAD = struct.Struct(">HH")  # protocol version, reserved
_UID_LENGTH = struct.Struct(">H")
_AE_TITLE_BYTES = 16
_RESERVED = bytes(32)
# In a refused context the transfer syntax means nothing, but some requestors want to see one.
_ANY_TRANSFER_SYNTAX = Uid("1.2.840.10008.1.2")


def encode_request(
    called_aet: AETitle,
    calling_aet: AETitle,
    contexts: Sequence[ProposedContext],
    max_pdu_bytes: int,
    *,
    roles: Mapping[Uid, Roles] = NO_ROLES,
    extended: Mapping[Uid, bytes] = NOTHING_EXTENDED,
) -> bytes:
    """Encode an A-ASSOCIATE-RQ; one operation at a time, no user identity. Raises ValueError when it cannot be."""
    if not 0 < len(contexts) <= MAX_CONTEXTS:
        raise ValueError(f"{len(contexts)} presentation contexts; an association has 1 to {MAX_CONTEXTS}")
    titles = _encode_ae_title(called_aet) + _encode_ae_title(calling_aet) + _RESERVED
    user_information = _encode_user_information(max_pdu_bytes, roles, extended)
    return _encode(ASSOCIATE_RQ, titles, map(_encode_proposed, contexts), user_information)


def encode_accept(
    titles: bytes,
    contexts: Sequence[NegotiatedContext],
    max_pdu_bytes: int,
    *,
    roles: Mapping[Uid, Roles] = NO_ROLES,
    extended: Mapping[Uid, bytes] = NOTHING_EXTENDED,
    window_offered: bool,
    identity_answer: bytes | None,
) -> bytes:
    """Encode an A-ASSOCIATE-AC; `titles` are the 64 bytes of the request that it repeats.

    An operations window offered comes back as 1 and 1 (B47), `identity_answer` as a user identity answer when not None.
    """
    user_information = _encode_user_information(max_pdu_bytes, roles, extended, window_offered, identity_answer)
    return _encode(ASSOCIATE_AC, titles, map(_encode_answered, contexts), user_information)


def _encode(kind: int, titles: bytes, contexts: map[bytes], user_information: bytes) -> bytes:
    body = b"".join((_HEAD.pack(1, 0), titles, _encode_application_context(), *contexts, user_information))
    return HEADER.pack(kind, len(body)) + body


def _encode_application_context() -> bytes:
    item = ApplicationContextItem()
    item.application_context_name = APPLICATION_CONTEXT
    return item.encode()


def _encode_user_information(
    max_pdu_bytes: int,
    roles: Mapping[Uid, Roles],
    extended: Mapping[Uid, bytes],
    window_offered: bool = False,
    identity_answer: bytes | None = None,
) -> bytes:
    """Encode the sub-items in ascending order: older peers expect that."""
    length = MaximumLengthSubItem()
    length.maximum_length_received = max_pdu_bytes
    implementation = ImplementationClassUIDSubItem()
    implementation.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    parts = [length.encode(), implementation.encode()]
    if window_offered:
        window = AsynchronousOperationsWindowSubItem()
        window.maximum_number_operations_invoked = 1
        window.maximum_number_operations_performed = 1
        parts.append(window.encode())
    parts += _encode_for_classes(ROLE_SELECTION_ITEM, ((one, bytes(roles[one])) for one in roles))
    version = ImplementationVersionNameSubItem()
    version.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    parts.append(version.encode())
    parts += _encode_for_classes(EXTENDED_NEGOTIATION_ITEM, extended.items())
    if identity_answer is not None:
        identity = UserIdentitySubItemAC()
        identity.server_response = identity_answer
        parts.append(identity.encode())
    return encode_item(USER_INFORMATION_ITEM, b"".join(parts))


def _encode_for_classes(kind: int, items: Iterable[tuple[Uid, bytes]]) -> list[bytes]:
    """Encode sub-items that begin with the length of a SOP Class UID and that UID (PS3.7 §D.3.3.4, §D.3.3.5)."""
    encoded = ((sop_class.encode("latin-1"), value) for sop_class, value in items)
    return [encode_item(kind, _UID_LENGTH.pack(len(name)) + name + value) for name, value in encoded]


def _encode_proposed(context: ProposedContext) -> bytes:
    syntaxes = [encode_item(TRANSFER_SYNTAX_ITEM, uid.encode("latin-1")) for uid in context.transfer_syntaxes]
    body = b"".join((encode_item(ABSTRACT_SYNTAX_ITEM, context.abstract_syntax.encode("latin-1")), *syntaxes))
    return encode_item(PROPOSED_CONTEXT_ITEM, bytes((context.context_id, 0, 0, 0)) + body)


def _encode_answered(context: NegotiatedContext) -> bytes:
    syntax = encode_item(TRANSFER_SYNTAX_ITEM, (context.transfer_syntax or _ANY_TRANSFER_SYNTAX).encode("latin-1"))
    return encode_item(ANSWERED_CONTEXT_ITEM, bytes((context.context_id, 0, context.result, 0)) + syntax)


def _encode_ae_title(title: AETitle) -> bytes:
    value = title.encode("ascii")
    if not 0 < len(value) <= _AE_TITLE_BYTES:
        raise ValueError(f"AE title {title!r} is not of 1 to {_AE_TITLE_BYTES} characters")
    return value.ljust(_AE_TITLE_BYTES)
