"""Which presentation contexts to propose for what is to be sent, and which one carries what (PS3.8 §9.3.2.2).

Pure. Every instance travels in the transfer syntax in which it is stored; nothing is transcoded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from router.dicom.uids import Uid
from router.dimse.events import NegotiatedContext, ProposedContext
from router.journal.records import Delivery

MAX_CONTEXTS = 128
"""Odd context ids 1 to 255."""
IMPLICIT_VR_LITTLE_ENDIAN = Uid("1.2.840.10008.1.2")


class Need(NamedTuple):
    """What an instance needs of an association."""

    sop_class: Uid
    transfer_syntax: Uid


def need_of(delivery: Delivery) -> Need:
    """Say what it takes to send this instance."""
    return Need(delivery.declared.sop_class_uid, delivery.declared.transfer_syntax_uid)


def needs_of(deliveries: Iterable[Delivery], earlier: Iterable[Need] = ()) -> tuple[Need, ...]:
    """Say what it takes to send these, in their order, at most 128; then `earlier` needs for which there is room."""
    wanted = dict.fromkeys(map(need_of, deliveries))
    wanted.update(dict.fromkeys(earlier))
    return tuple(wanted)[:MAX_CONTEXTS]


def propose(needs: Sequence[Need]) -> list[ProposedContext]:
    """Propose a context for each need with that transfer syntax only: then it is clear what an accepted one carries.

    A requestor shall also offer the default transfer syntax for each SOP class (PS3.5 §10.1): as far as there is room,
    in a context of its own, which we then do not use.
    """
    default = IMPLICIT_VR_LITTLE_ENDIAN
    offered = {need.sop_class for need in needs if need.transfer_syntax == default}
    classes = dict.fromkeys(need.sop_class for need in needs if need.sop_class not in offered)
    pairs = [*needs, *(Need(sop_class, default) for sop_class in classes)][:MAX_CONTEXTS]
    return [ProposedContext(2 * n + 1, sop_class, (syntax,)) for n, (sop_class, syntax) in enumerate(pairs)]


def usable(
    proposed: Sequence[ProposedContext], answered: Mapping[int, NegotiatedContext]
) -> dict[Need, NegotiatedContext]:
    """Pair each proposed need with its answer; one accepted with another transfer syntax counts as refused for it."""
    found = {}
    for context in proposed:
        (syntax,) = context.transfer_syntaxes
        answer = answered.get(context.context_id)
        if answer is None:
            answer = NegotiatedContext(context.context_id, context.abstract_syntax, Uid(""), _NOT_ANSWERED)
        elif answer.result == 0 and answer.transfer_syntax != syntax:
            answer = NegotiatedContext(context.context_id, context.abstract_syntax, Uid(""), _OTHER_SYNTAX)
        found[Need(context.abstract_syntax, syntax)] = answer
    return found


_NOT_ANSWERED = 2
_OTHER_SYNTAX = 4
