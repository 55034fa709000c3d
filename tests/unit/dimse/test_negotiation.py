"""Which contexts are accepted, and in which transfer syntax."""

from __future__ import annotations

from router.dicom.uids import Uid
from router.dimse.events import NegotiatedContext, ProposedContext
from router.dimse.negotiation import answer_contexts

CT, MR = Uid("1.2.840.10008.5.1.4.1.1.2"), Uid("1.2.840.10008.5.1.4.1.1.4")
IMPLICIT, EXPLICIT, JPEG = Uid("1.2.840.10008.1.2"), Uid("1.2.840.10008.1.2.1"), Uid("1.2.840.10008.1.2.4.50")


def answer(*proposed: ProposedContext, classes=lambda _: True, syntaxes=lambda _: True):
    return answer_contexts(proposed, accepts_sop_class=classes, accepts_transfer_syntax=syntaxes)


def test_the_senders_first_acceptable_transfer_syntax_is_taken():
    [first] = answer(ProposedContext(1, CT, (JPEG, EXPLICIT, IMPLICIT)))
    assert first == NegotiatedContext(1, CT, JPEG, 0)
    [second] = answer(ProposedContext(1, CT, (JPEG, EXPLICIT, IMPLICIT)), syntaxes=lambda uid: uid != JPEG)
    assert second == NegotiatedContext(1, CT, EXPLICIT, 0)


def test_b14_contexts_that_cannot_be_accepted_get_3_and_4():
    assert answer(
        ProposedContext(1, MR, (IMPLICIT,)),
        ProposedContext(3, CT, (JPEG,)),
        classes=lambda uid: uid == CT,
        syntaxes=lambda uid: uid != JPEG,
    ) == (NegotiatedContext(1, MR, Uid(""), 3), NegotiatedContext(3, CT, Uid(""), 4))


def test_context_without_transfer_syntax_gets_4_and_without_abstract_syntax_3():
    assert [c.result for c in answer(ProposedContext(2, CT, ()), ProposedContext(4, Uid(""), (IMPLICIT,)))] == [4, 3]


def test_what_is_no_uid_is_never_accepted():
    assert [c.result for c in answer(ProposedContext(1, Uid("?[31m"), (IMPLICIT,)))] == [3]
    [context] = answer(ProposedContext(1, CT, (Uid("1.2" * 40), Uid("x.y"), IMPLICIT)))
    assert context.transfer_syntax == IMPLICIT


def test_one_abstract_syntax_in_many_contexts_keeps_each():
    proposed = [ProposedContext(i, CT, (syntax,)) for i, syntax in ((1, IMPLICIT), (3, EXPLICIT), (254, JPEG))]
    assert [(c.context_id, c.transfer_syntax) for c in answer(*proposed)] == [(1, IMPLICIT), (3, EXPLICIT), (254, JPEG)]


def test_uids_newer_than_any_table_are_for_the_predicates_to_judge():
    new = Uid("1.2.840.10008.5.1.4.1.1.66.99")
    assert answer(ProposedContext(1, new, (Uid("1.2.840.10008.1.2.4.299"),)))[0].result == 0
