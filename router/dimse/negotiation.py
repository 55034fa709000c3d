"""Presentation context negotiation as the acceptor (PS3.8 §9.3.3.2): which contexts we take, in which transfer syntax.

Not `pynetdicom.negotiate_as_acceptor`: it raises on even context ids and on a context without transfer syntax, takes a
list of supported SOP classes instead of a rule, and prefers the acceptor's order where a router keeps the sender's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from router.dicom.uids import Uid, is_valid_uid
from router.dimse.events import NegotiatedContext, ProposedContext

ACCEPTED = 0
NOT_ANSWERED = 2
ABSTRACT_SYNTAX_REFUSED = 3
TRANSFER_SYNTAXES_REFUSED = 4


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


def _takes(uid: Uid, accepts: Callable[[Uid], bool]) -> bool:
    return is_valid_uid(uid, odd=True) and accepts(uid)
