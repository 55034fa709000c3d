"""Whom we open associations to: what has to be known of a peer, and how the configuration says it."""

from __future__ import annotations

import msgspec

from router.config.model import Destination, DimseDestination, DimseUpstream, StoreReach, StowDestination
from router.config.titles import ae_title_of
from router.dicom.uids import AETitle


class DimseNode(msgspec.Struct, frozen=True, kw_only=True):
    """Whom to call, and as whom. Times in seconds."""

    ae_title: AETitle
    host: str
    port: int
    calling_aet: AETitle
    connect_s: float = 10.0
    answer_s: float = 60.0
    max_pdu_bytes: int = 131_072


def node_of(peer: Destination | DimseUpstream, our_title: str) -> DimseNode | None:
    """Say how to reach a peer over DIMSE, as whom it is to see us or else as `our_title`; None when it is web alone."""
    match peer:
        case DimseUpstream():
            return _reached(peer, peer.ae_title, our_title)
        case DimseDestination():
            return _reached(peer, peer.ae_title, our_title)
        case StowDestination(c_store=StoreReach() as reach):
            return _reached(reach, ae_title_of(peer), our_title)
        case _:
            return None


def _reached(where: DimseUpstream | DimseDestination | StoreReach, ae_title: str, our_title: str) -> DimseNode:
    return DimseNode(
        ae_title=AETitle(ae_title),
        host=where.host,
        port=where.port,
        calling_aet=AETitle(where.calling_aet or our_title),
        connect_s=where.connect_s,
        answer_s=where.answer_s,
    )
