"""What an acceptor may answer: presentation contexts (PS3.8 §9.3.3.2), roles, application information (PS3.7 §D.3.3).

Not `pynetdicom.negotiate_as_acceptor`: it raises on even context ids and on a context without transfer syntax, takes a
list of supported SOP classes instead of a rule, and prefers the acceptor's order where a router keeps the sender's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from router.dicom.uids import Uid, is_valid_uid
from router.dimse.events import NegotiatedContext, ProposedContext, Roles

ACCEPTED = 0
NOT_ANSWERED = 2
ABSTRACT_SYNTAX_REFUSED = 3
TRANSFER_SYNTAXES_REFUSED = 4

NO_ROLES: Final[Mapping[Uid, Roles]] = {}
NOTHING_EXTENDED: Final[Mapping[Uid, bytes]] = {}


def answer_contexts(
    proposed: Sequence[ProposedContext],
    *,
    accepts_sop_class: Callable[[Uid], bool],
    accepts_transfer_syntax: Callable[[Uid], bool],
) -> tuple[NegotiatedContext, ...]:
    """Answer each proposed context: the first proposed transfer syntax that is acceptable, else result 3 or 4.

    What is not a UID at all is never accepted, whatever the two predicates say.
    """
    answers = []
    for context in proposed:
        transfer_syntax, result = Uid(""), ABSTRACT_SYNTAX_REFUSED
        if _takes(context.abstract_syntax, accepts_sop_class):
            result = TRANSFER_SYNTAXES_REFUSED
            for candidate in context.transfer_syntaxes:
                if _takes(candidate, accepts_transfer_syntax):
                    transfer_syntax, result = candidate, ACCEPTED
                    break
        answers.append(NegotiatedContext(context.context_id, context.abstract_syntax, transfer_syntax, result))
    return tuple(answers)


def agreed_roles(proposed: Mapping[Uid, Roles], answered: Mapping[Uid, Roles]) -> dict[Uid, Roles]:
    """Keep of an answer what was proposed: no SOP class and no role besides (PS3.7 §D.3.3.4.2)."""
    return {
        sop_class: Roles(roles.scu and proposed[sop_class].scu, roles.scp and proposed[sop_class].scp)
        for sop_class, roles in answered.items()
        if sop_class in proposed
    }


def agreed_extended(offered: Mapping[Uid, bytes], answered: Mapping[Uid, bytes]) -> dict[Uid, bytes]:
    """Keep of an answer what was offered: no SOP class besides, no more bytes than offered (PS3.7 §D.3.3.5.2)."""
    return {
        sop_class: information[: len(offered[sop_class])]
        for sop_class, information in answered.items()
        if sop_class in offered
    }


def _takes(uid: Uid, accepts: Callable[[Uid], bool]) -> bool:
    return is_valid_uid(uid, odd=True) and accepts(uid)
