"""What a peer did, as values: what `UpperLayer.receive` returns and what `Commands` carry. No behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from router.dicom.uids import AETitle, Uid

_NO_UID = Uid("")
_NO_TITLE = AETitle("")


class Roles(NamedTuple):
    """What the association requestor is for a SOP class (PS3.7 §D.3.3.4). Without a word about it: SCU alone."""

    scu: bool
    scp: bool


@dataclass(frozen=True, slots=True)
class ProposedContext:
    """A presentation context as proposed (PS3.8 §9.3.2.2)."""

    context_id: int
    abstract_syntax: Uid
    transfer_syntaxes: tuple[Uid, ...]


@dataclass(frozen=True, slots=True)
class NegotiatedContext:
    """A presentation context as answered (PS3.8 §9.3.3.2): `result` 0 is accepted; `transfer_syntax` else ""."""

    context_id: int
    abstract_syntax: Uid
    transfer_syntax: Uid
    result: int


@dataclass(frozen=True, slots=True)
class UserIdentity:
    """User identity as offered (PS3.7 §D.3.3.7). Never logged."""

    kind: int
    primary: bytes
    secondary: bytes
    answer_requested: bool

    def __repr__(self) -> str:
        return f"UserIdentity(kind={self.kind})"


@dataclass(frozen=True, slots=True)
class AssociateRequest:
    """An A-ASSOCIATE-RQ, checked for syntax but not for policy."""

    called_aet: AETitle
    calling_aet: AETitle
    application_context: Uid
    protocol_version: int
    contexts: tuple[ProposedContext, ...]
    max_pdu_bytes: int
    implementation_class_uid: Uid
    implementation_version: str
    user_identity: UserIdentity | None
    max_operations_invoked: int = 1
    roles: Mapping[Uid, Roles] = field(default_factory=dict)
    """Role selection as proposed, by SOP class."""
    extended: Mapping[Uid, bytes] = field(default_factory=dict)
    """SOP class extended negotiation as proposed: service class application information, by SOP class."""


@dataclass(frozen=True, slots=True)
class AssociateRequested:
    request: AssociateRequest


@dataclass(frozen=True, slots=True)
class AssociateAccepted:
    contexts: tuple[NegotiatedContext, ...]
    max_pdu_bytes: int
    roles: Mapping[Uid, Roles] = field(default_factory=dict)
    extended: Mapping[Uid, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AssociateRejected:
    """PS3.8 Table 9-21."""

    result: int
    source: int
    reason: int


class Command(msgspec.Struct, frozen=True):
    """A decoded command set (PS3.7 §6.3.1, Annex E). Absent elements are None, absent UIDs and AE titles ""."""

    field: int
    message_id: int | None = None
    message_id_responded_to: int | None = None
    affected_sop_class_uid: Uid = _NO_UID
    affected_sop_instance_uid: Uid = _NO_UID
    priority: int | None = None
    status: int | None = None
    error_comment: str = ""
    has_data_set: bool = False
    requested_sop_class_uid: Uid = _NO_UID
    requested_sop_instance_uid: Uid = _NO_UID
    move_destination: AETitle = _NO_TITLE
    move_originator_aet: AETitle = _NO_TITLE
    move_originator_message_id: int | None = None
    remaining: int | None = None
    completed: int | None = None
    failed: int | None = None
    warning: int | None = None
    event_type_id: int | None = None
    action_type_id: int | None = None
    offending_elements: tuple[int, ...] = ()
    """Tags (0000,0901)."""


@dataclass(frozen=True, slots=True)
class CommandReceived:
    context_id: int
    command: Command


@dataclass(frozen=True, slots=True)
class DataReceived:
    """A fragment of the data set of the last command on this association; `last` ends the message."""

    context_id: int
    fragment: bytes | memoryview
    last: bool


@dataclass(frozen=True, slots=True)
class ReleaseRequested:
    """The peer asks to release (A-RELEASE indication); answer with `UpperLayer.confirm_release`."""


@dataclass(frozen=True, slots=True)
class Released:
    """Our release is confirmed: close the connection."""


@dataclass(frozen=True, slots=True)
class Aborted:
    """The peer sent A-ABORT: close the connection."""

    source: int
    reason: int


Event = (
    AssociateRequested
    | AssociateAccepted
    | AssociateRejected
    | CommandReceived
    | DataReceived
    | ReleaseRequested
    | Released
    | Aborted
)
