"""PDUs written by hand for the tests of router.dimse, right and wrong, and layers brought to where a test begins."""

from __future__ import annotations

import struct

from router.dicom.uids import AETitle, Uid
from router.dimse.commands import C_STORE_RQ, encode_command
from router.dimse.events import Command, ProposedContext
from router.dimse.negotiation import answer_contexts
from router.dimse.upper_layer import UpperLayer

CT = Uid("1.2.840.10008.5.1.4.1.1.2")
IMPLICIT = Uid("1.2.840.10008.1.2")
EXPLICIT = Uid("1.2.840.10008.1.2.1")
CONTEXTS = (ProposedContext(1, CT, (EXPLICIT, IMPLICIT)), ProposedContext(3, CT, (IMPLICIT,)))
STORE = Command(C_STORE_RQ, 7, None, CT, Uid("1.2.3.4"), 0, None, "", True)


def pdu(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxI", kind, len(body)) + body


def item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(body)) + body


def context(context_id: int, abstract: str = CT, transfer: tuple[str, ...] = (IMPLICIT,)) -> bytes:
    syntaxes = b"".join(item(0x40, uid.encode()) for uid in transfer)
    return item(0x20, bytes((context_id, 0, 0, 0)) + item(0x30, abstract.encode()) + syntaxes)


def user_information(*, max_length: int | None = 16384, more: bytes = b"") -> bytes:
    length = b"" if max_length is None else item(0x51, struct.pack(">I", max_length))
    return item(0x50, length + item(0x52, b"1.2.3") + more)


def request(
    contexts: bytes | None = None,
    user: bytes | None = None,
    *,
    version: int = 1,
    called: bytes = b"SENDRS",
    calling: bytes = b"CT1",
    application: bytes = b"1.2.840.10008.3.1.1.1",
    more: bytes = b"",
) -> bytes:
    head = struct.pack(">HH", version, 0) + called.ljust(16) + calling.ljust(16) + bytes(32)
    contexts = context(1) if contexts is None else contexts
    user = user_information() if user is None else user
    return pdu(0x01, head + item(0x10, application) + contexts + user + more)


def pdv(context_id: int, control: int, fragment: bytes) -> bytes:
    return struct.pack(">IBB", len(fragment) + 2, context_id, control) + fragment


def command_pdv(command: Command = STORE, context_id: int = 1) -> bytes:
    return pdv(context_id, 3, encode_command(command))


def output(layer: UpperLayer) -> bytes:
    return b"".join(layer.take_output())


def abort(source: int, reason: int) -> bytes:
    return bytes((7, 0, 0, 0, 0, 4, 0, 0, source, reason))


def acceptor(max_pdu_bytes: int = 16384) -> UpperLayer:
    return UpperLayer(requestor=False, max_pdu_bytes=max_pdu_bytes)


def associate(*, acceptor_max: int = 16384, requestor_max: int = 16384) -> tuple[UpperLayer, UpperLayer]:
    """Return a requestor and an acceptor with an association between them."""
    requestor = UpperLayer(requestor=True, max_pdu_bytes=requestor_max)
    accepting = UpperLayer(requestor=False, max_pdu_bytes=acceptor_max)
    requestor.request(called_aet=AETitle("SENDRS"), calling_aet=AETitle("CT1"), contexts=CONTEXTS)
    accepting.receive(output(requestor))
    accepting.accept(
        answer_contexts(CONTEXTS, accepts_sop_class=lambda _: True, accepts_transfer_syntax=lambda _: True)
    )
    requestor.receive(output(accepting))
    return requestor, accepting


def established(max_pdu_bytes: int = 16384) -> UpperLayer:
    """Return an acceptor inside an association."""
    return associate(acceptor_max=max_pdu_bytes)[1]
