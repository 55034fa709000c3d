"""What is proposed for an association that we open, and what the peer made of it (PS3.8 §9.3.3.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from router.dicom.transfer_syntax import EXPLICIT_VR_LITTLE_ENDIAN
from router.dicom.uids import Uid
from router.dimse.events import NegotiatedContext, ProposedContext, Roles

_NOT_ANSWERED: Final = 2
_OTHER_SYNTAX: Final = 4


class Proposal(NamedTuple):
    """One SOP class to be negotiated, with application information and roles if any."""

    sop_class: Uid
    extended: bytes = b""
    roles: Roles | None = None
    transfer_syntaxes: tuple[Uid, ...] = (EXPLICIT_VR_LITTLE_ENDIAN, Uid("1.2.840.10008.1.2"))


def proposed_contexts(proposals: Sequence[Proposal]) -> list[ProposedContext]:
    """Give each SOP class a presentation context of its own."""
    return [ProposedContext(2 * n + 1, one.sop_class, one.transfer_syntaxes) for n, one in enumerate(proposals)]


def answered_contexts(
    proposals: Sequence[Proposal], answers: Mapping[int, NegotiatedContext]
) -> dict[Uid, NegotiatedContext]:
    """Pair each proposed SOP class with its answer; one accepted with a syntax that was not offered is refused."""
    found = {}
    for proposed in proposed_contexts(proposals):
        answer = answers.get(proposed.context_id)
        result = _NOT_ANSWERED if answer is None else answer.result
        if answer is not None and result == 0 and answer.transfer_syntax not in proposed.transfer_syntaxes:
            result = _OTHER_SYNTAX
        syntax = answer.transfer_syntax if answer is not None and result == 0 else Uid("")
        found[proposed.abstract_syntax] = NegotiatedContext(
            proposed.context_id, proposed.abstract_syntax, syntax, result
        )
    return found
