"""A-ASSOCIATE-RQ and -AC against pynetdicom: its fixtures are read, and it reads what we write."""

from __future__ import annotations

import pytest
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.tests import encoded_pdu_items as fixtures

from router.dicom.uids import APPLICATION_CONTEXT, IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, AETitle, Uid
from router.dimse.associate import decode_answer, decode_request
from router.dimse.associate_writer import encode_accept, encode_request
from router.dimse.events import NegotiatedContext, ProposedContext, Roles

CT, IMPLICIT, EXPLICIT = Uid("1.2.840.10008.5.1.4.1.1.2"), Uid("1.2.840.10008.1.2"), Uid("1.2.840.10008.1.2.1")
MR = Uid("1.2.840.10008.5.1.4.1.1.4")
CONTEXTS = tuple(ProposedContext(i, CT, (EXPLICIT, IMPLICIT)) for i in range(1, 256, 2))


@pytest.mark.parametrize(
    "name",
    [
        n
        for n in dir(fixtures)
        if n.startswith("a_associate_rq") and n not in ("a_associate_rq_called", "a_associate_rq_calling")
    ],
)
def test_requests_of_the_wheel_are_read_as_pynetdicom_reads_them(name):
    raw = getattr(fixtures, name)
    theirs = A_ASSOCIATE_RQ()
    theirs.decode(raw)
    ours = decode_request(raw[6:])
    assert ours.called_aet == theirs.called_ae_title.strip()
    assert ours.calling_aet == theirs.calling_ae_title.strip()
    assert ours.application_context == theirs.application_context_name
    assert [(c.context_id, c.abstract_syntax, list(c.transfer_syntaxes)) for c in ours.contexts] == [
        (c.context_id, c.abstract_syntax, c.transfer_syntax) for c in theirs.presentation_context
    ]
    user = theirs.user_information
    assert ours.max_pdu_bytes == user.maximum_length
    assert ours.implementation_class_uid == user.implementation_class_uid
    assert ours.implementation_version == (user.implementation_version_name or "")
    assert ours.max_operations_invoked == (user.async_ops_window.max_operations_invoked if user.async_ops_window else 1)
    assert ours.roles == {uid: (bool(one.scu_role), bool(one.scp_role)) for uid, one in user.role_selection.items()}
    assert ours.extended == {
        item.sop_class_uid: item.service_class_application_information for item in reversed(user.ext_neg)
    }
    assert (ours.user_identity is None) == (user.user_identity is None)
    if ours.user_identity and user.user_identity:
        assert ours.user_identity.primary == user.user_identity.primary
        assert ours.user_identity.kind == user.user_identity.id_type


@pytest.mark.parametrize("name", ["a_associate_rq_called", "a_associate_rq_calling"])
def test_empty_titles_are_read_for_the_policy_to_refuse(name):
    request = decode_request(getattr(fixtures, name)[6:])
    assert "" in (request.called_aet, request.calling_aet)


@pytest.mark.parametrize(
    ("name", "result", "max_pdu_bytes"),
    [
        ("a_associate_ac", 0, 16384),
        ("a_associate_ac_user", 0, 16384),
        ("a_associate_ac_zero_ts", 4, 28672),
        ("a_associate_ac_no_ts", 3, 16382),
    ],
)
def test_answers_of_the_wheel_are_read(name, result, max_pdu_bytes):
    answer = decode_answer(getattr(fixtures, name)[6:], [ProposedContext(1, CT, (IMPLICIT,))])
    assert answer.max_pdu_bytes == max_pdu_bytes
    assert answer.contexts == (NegotiatedContext(1, CT, Uid("" if result else IMPLICIT), result),)


def test_our_request_is_read_by_pynetdicom_and_by_us():
    roles, extended = {CT: Roles(scu=False, scp=True), MR: Roles(scu=True, scp=True)}, {CT: b"\1\0", MR: b"\1"}
    raw = encode_request(AETitle("ARCHIVE"), AETitle("SENDRS"), CONTEXTS, 131072, roles=roles, extended=extended)
    theirs = A_ASSOCIATE_RQ()
    theirs.decode(raw)
    assert theirs.encode() == raw
    assert theirs.user_information.maximum_length == 131072
    assert [(one.uid, one.scu_role, one.scp_role) for one in theirs.user_information.role_selection.values()] == [
        (CT, 0, 1),
        (MR, 1, 1),
    ]
    assert [(one.uid, one.app_info) for one in theirs.user_information.ext_neg] == [(CT, b"\1\0"), (MR, b"\1")]
    kinds = [item.item_type for item in theirs.user_information.user_data]
    assert kinds == sorted(kinds)
    assert theirs.user_information.implementation_class_uid == IMPLEMENTATION_CLASS_UID
    ours = decode_request(raw[6:])
    assert (ours.called_aet, ours.calling_aet, ours.protocol_version) == ("ARCHIVE", "SENDRS", 1)
    assert ours.contexts == CONTEXTS
    assert (ours.roles, ours.extended) == (roles, extended)
    assert ours.application_context == APPLICATION_CONTEXT
    assert ours.implementation_version == IMPLEMENTATION_VERSION_NAME


@pytest.mark.parametrize("identity_answer", [None, b"", b"ticket"])
@pytest.mark.parametrize("window_offered", [True, False])
def test_our_answer_is_read_by_pynetdicom_and_by_us(window_offered, identity_answer):
    contexts = (NegotiatedContext(1, CT, EXPLICIT, 0), NegotiatedContext(3, CT, Uid(""), 4))
    titles = b"ARCHIVE".ljust(16) + b"SENDRS".ljust(16) + bytes(32)
    roles, extended = {CT: Roles(scu=False, scp=True)}, {CT: b"\1\0"}
    raw = encode_accept(
        titles,
        contexts,
        16384,
        roles=roles,
        extended=extended,
        window_offered=window_offered,
        identity_answer=identity_answer,
    )
    theirs = A_ASSOCIATE_AC()
    theirs.decode(raw)
    assert [(c.context_id, c.result) for c in theirs.presentation_context] == [(1, 0), (3, 4)]
    assert theirs.presentation_context[0].transfer_syntax == EXPLICIT
    window = theirs.user_information.async_ops_window
    assert (window is not None) == window_offered
    if window is not None:
        assert (window.max_operations_invoked, window.max_operations_performed) == (1, 1)
    identity = theirs.user_information.user_identity
    assert (identity.response if identity else None) == identity_answer
    kinds = [item.item_type for item in theirs.user_information.user_data]
    assert kinds == sorted(kinds)
    ours = decode_answer(raw[6:], CONTEXTS[:2])
    assert ours.contexts == contexts
    assert ours.max_pdu_bytes == 16384
    assert (ours.roles, ours.extended) == (roles, extended)
