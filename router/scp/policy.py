"""Who may associate and for what: called and calling AE title, address, user identity, SOP classes, transfer syntaxes.
Pure.

Answers are those of PS3.8 Table 9-21. Titles are compared exactly (case counts); user identity is never logged.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from router.config.model import DicomConfig, Peer
from router.dicom.sop_classes import STORAGE_SOP_CLASSES, looks_like_service
from router.dicom.transfer_syntax import is_big_endian
from router.dicom.transfer_syntax import name_of as name_of_transfer_syntax
from router.dicom.uids import APPLICATION_CONTEXT, VERIFICATION, AETitle, Uid
from router.dimse.events import AssociateRequest, UserIdentity
from router.errors import Refused
from router.net.callers import Callers

PERMANENT, TRANSIENT = 1, 2
MAX_AE_TITLE_LENGTH = 16

IdentityHook = Callable[[UserIdentity, AETitle, str], bytes | None]
"""Decides on an offered identity (its type is known and its size bounded: `dimse.associate`), given the calling AE
title and the address. None accepts without an answer, bytes are the server response for a peer that asked for one.
Raises Refused to reject the association.
"""


@dataclass(frozen=True, slots=True)
class Rejection:
    """Result, source and reason of an A-ASSOCIATE-RJ, and why, for the log. `unknown_peer`: registering the caller
    would mend it.
    """

    result: int
    source: int
    reason: int
    why: str
    unknown_peer: bool = False


APPLICATION_CONTEXT_UNKNOWN = Rejection(PERMANENT, 1, 2, "unknown application context")
CALLED_AET_UNKNOWN = Rejection(PERMANENT, 1, 7, "called AE title is not ours")
CALLING_AET_INVALID = Rejection(PERMANENT, 1, 3, "calling AE title is not one")
CALLER_UNKNOWN = Rejection(PERMANENT, 1, 3, "calling AE title and address are not registered", unknown_peer=True)
SHUTTING_DOWN = Rejection(TRANSIENT, 3, 1, "shutting down")
NO_ROOM = Rejection(TRANSIENT, 3, 1, "no room on the disk")
TOO_MANY_ASSOCIATIONS = Rejection(TRANSIENT, 3, 2, "too many associations")
TOO_MANY_OF_PEER = Rejection(TRANSIENT, 3, 2, "too many associations of this peer")


def ignore_identity(identity: UserIdentity, calling_aet: AETitle, address: str) -> bytes | None:
    """Accept every user identity without looking at it, and do not answer it (PS3.7 §D.3.3.7 leaves that to the
    requestor).
    """
    return None


def is_ae_title(text: str) -> bool:
    """Say whether `text`, spaces around it stripped, is an AE title: 1 to 16 printable ASCII characters, no backslash
    (PS3.5 §6.2).
    """
    return 0 < len(text) <= MAX_AE_TITLE_LENGTH and text.isascii() and text.isprintable() and "\\" not in text


class AssociationPolicy:
    """The policy of one configuration; a reload makes a new one. `further_titles` are ours besides that of `config`."""

    def __init__(
        self,
        config: DicomConfig,
        peers: Mapping[str, Peer],
        *,
        identity: IdentityHook = ignore_identity,
        further_titles: Collection[AETitle] = (),
    ) -> None:
        self.config = config
        self._titles = frozenset((config.ae_title, *further_titles))
        self._callers = Callers(peers)
        self._identity = identity

    def rejection(self, request: AssociateRequest, address: str) -> Rejection | None:
        """Say why a caller is not let in, or None. Load, room and identity are asked for after this."""
        if request.application_context != APPLICATION_CONTEXT:
            return APPLICATION_CONTEXT_UNKNOWN
        if request.called_aet not in self._titles:
            return CALLED_AET_UNKNOWN
        if not is_ae_title(request.calling_aet):
            return CALLING_AET_INVALID
        if not self._callers.allows_association(request.calling_aet, address):
            return CALLER_UNKNOWN
        return None

    def identity_answer(self, request: AssociateRequest, address: str) -> bytes | Rejection | None:
        """Ask the identity hook; the server response, None for no answer, or why the caller is not let in (PS3.7
        §D.3.3.7.3).
        """
        identity = request.user_identity
        if identity is None:
            return None
        try:
            answer = self._identity(identity, request.calling_aet, address)
        except Refused as refusal:
            return Rejection(PERMANENT, 2, 1, refusal.reason)
        return answer if identity.answer_requested else None

    def accepts_sop_class(self, uid: Uid) -> bool:
        """Say whether a presentation context for it is accepted: Verification, all storage, and what is unknown if so
        configured.
        """
        if uid == VERIFICATION or uid in STORAGE_SOP_CLASSES:
            return True
        return self.config.accept_unknown_sop_classes and not looks_like_service(uid)

    def accepts_transfer_syntax(self, uid: Uid) -> bool:
        """Say whether a data set in it is taken as it comes."""
        if is_big_endian(uid):
            return self.config.accept_big_endian
        return self.config.accept_unknown_transfer_syntaxes or name_of_transfer_syntax(uid) != uid
