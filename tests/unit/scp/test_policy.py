"""Who may associate and for what, how unknown callers are kept, and what of a peer's words reaches the log."""

from __future__ import annotations

from typing import Any

import pytest

from router.config.model import DicomConfig, Peer
from router.dicom.uids import APPLICATION_CONTEXT, VERIFICATION, AETitle, Uid
from router.dimse.events import AssociateRequest
from router.scp.escape import printable
from router.scp.occupancy import Occupancy
from router.scp.pending import MAX_PENDING, PendingPeers
from router.scp.policy import CALLER_UNKNOWN, AssociationPolicy, Rejection

PRIVATE = Uid("1.3.6.1.4.1.99999.1")


def request(calling_aet: str = "CT1") -> AssociateRequest:
    return AssociateRequest(
        called_aet=AETitle("SENDRS"),
        calling_aet=AETitle(calling_aet),
        application_context=APPLICATION_CONTEXT,
        protocol_version=1,
        contexts=(),
        max_pdu_bytes=16384,
        implementation_class_uid=Uid("1.2.3"),
        implementation_version="",
        user_identity=None,
    )


def rejection(address: str, *peers: tuple[str, str], calling_aet: str = "CT1") -> Rejection | None:
    known = {title: Peer(name=title, ae_title=title, address=network) for title, network in peers}
    return AssociationPolicy(DicomConfig(), known).rejection(request(calling_aet), address)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_with_no_peer_registered_loopback_may_call(address: str) -> None:
    assert rejection(address) is None


@pytest.mark.parametrize("address", ["10.1.2.3", "192.168.0.1", "fe80::1%eth0", "::ffff:10.0.0.1", "0.0.0.0", "", "x"])
def test_with_no_peer_registered_nobody_else_may(address: str) -> None:
    assert rejection(address) is CALLER_UNKNOWN


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("10.1.2.3", "10.1.2.3"),
        ("10.1.2.3", "10.1.0.0/16"),
        ("10.1.2.3", "10.1.2.3/16"),
        ("::ffff:10.1.2.3", "10.1.0.0/16"),
        ("2001:db8::5", "2001:db8::/32"),
    ],
)
def test_a_registered_title_may_call_from_its_network(address: str, network: str) -> None:
    assert rejection(address, ("MR1", "10.0.0.0/8"), ("CT1", network)) is None


@pytest.mark.parametrize("address", ["10.2.0.1", "127.0.0.1", "::1"])
def test_a_registered_title_may_not_call_from_elsewhere(address: str) -> None:
    assert rejection(address, ("MR1", "10.0.0.0/8"), ("CT1", "10.1.0.0/16")) is CALLER_UNKNOWN


def policy(**settings: Any) -> AssociationPolicy:
    return AssociationPolicy(DicomConfig(**settings), {})


def test_verification_and_storage_are_always_accepted() -> None:
    strict = policy(accept_unknown_sop_classes=False)
    label_map = Uid("1.2.840.10008.5.1.4.1.1.66.7")
    assert all(strict.accepts_sop_class(uid) for uid in (VERIFICATION, Uid("1.2.840.10008.5.1.4.1.1.2"), label_map))


def test_private_sop_classes_and_transfer_syntaxes_are_a_matter_of_configuration() -> None:
    assert policy().accepts_sop_class(PRIVATE)
    assert policy().accepts_transfer_syntax(PRIVATE)
    assert not policy(accept_unknown_sop_classes=False).accepts_sop_class(PRIVATE)
    assert not policy(accept_unknown_transfer_syntaxes=False).accepts_transfer_syntax(PRIVATE)


@pytest.mark.parametrize(
    "uid", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.1.99"]
)
def test_standard_transfer_syntaxes_are_always_accepted(uid: str) -> None:
    assert policy(accept_unknown_transfer_syntaxes=False).accepts_transfer_syntax(Uid(uid))


def test_services_are_never_accepted_as_storage() -> None:
    for uid in ("1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.1.20.1", "1.2.840.10008.5.1.4.31"):
        assert not policy().accepts_sop_class(Uid(uid))


def test_pending_peers_are_bounded_and_the_most_recent_come_first() -> None:
    now = 0.0
    pending = PendingPeers(lambda: now)
    for n in range(MAX_PENDING):
        now = float(n)
        pending.add(AETitle(f"AE{n}"), "10.0.0.1")
    now = 500.0
    pending.add(AETitle("AE0"), "10.0.0.1")
    pending.add(AETitle("NEW"), "10.0.0.2")
    listing = pending.listing()
    assert len(listing) == MAX_PENDING
    assert [peer.calling_aet for peer in listing[:3]] == ["NEW", "AE0", f"AE{MAX_PENDING - 1}"]
    assert (listing[1].attempts, listing[1].first_seen, listing[1].last_seen) == (2, 0.0, 500.0)
    assert "AE1" not in {peer.calling_aet for peer in listing}


def test_occupancy_counts_in_all_and_by_peer_also_when_an_association_fails() -> None:
    occupancy = Occupancy()
    one, other = (AETitle("A"), "10.0.0.1"), (AETitle("A"), "10.0.0.2")

    def fail_inside() -> None:
        with occupancy.one_more(one), occupancy.one_more(one), occupancy.one_more(other):
            assert (occupancy.total, occupancy.of(one), occupancy.of(other)) == (3, 2, 1)
            raise KeyError

    with pytest.raises(KeyError):
        fail_inside()
    assert (occupancy.total, occupancy.of(one), occupancy.of(other)) == (0, 0, 0)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("CT 1", "CT 1"),
        ("a\r\nb", "a\\r\\nb"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\u202eabc", "\\u202eabc"),
        ("\xe9", "\\xe9"),
        ("1" * 65, "1" * 64 + "..."),
    ],
)
def test_what_a_peer_says_is_shown_escaped_and_cut(text: str, shown: str) -> None:
    assert printable(text) == shown
