"""Which representation each instance of an answer goes out in (PS3.18 §8.7, §10.4.4).

The kind (DICOM files or bulk data, in parts or alone) is chosen once, the transfer syntax for each that is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from router.dicom.conversion import is_uncompressed, web_transfer_syntaxes
from router.dicom.transfer_syntax import EXPLICIT_VR_LITTLE_ENDIAN
from router.dicom.uids import Uid
from router.dicomweb.accept import OCTET_STREAM, NotAcceptable, Offer
from router.dicomweb.frame_media_types import code_stream_type
from router.dicomweb.media_types import DICOM
from router.search import StoredInstance

Negotiate = Callable[[Sequence[Offer]], Offer]
"""Chooses for one request. Raises NotAcceptable."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What goes out as what, in the order of the instances; those that nothing fits are not in `chosen`."""

    kind: Offer
    chosen: tuple[tuple[StoredInstance, Offer], ...]


def choose_instances(stored: Sequence[StoredInstance], negotiate: Negotiate) -> Choice:
    """Choose between files in their transfer syntaxes and bulk data. Raises NotAcceptable when nothing fits."""
    syntaxes = _syntaxes(stored)
    multipart = [True, False] if len(stored) == 1 else [True]
    files = [Offer(DICOM, several, syntax) for several in multipart for syntax in _sendable(syntaxes)]
    bulk = [Offer(OCTET_STREAM, True, syntax) for syntax in dict.fromkeys(map(_bulk_syntax, syntaxes))]
    kind = negotiate(files + bulk)

    def offers(syntax: Uid) -> list[Offer]:
        if kind.media_type == OCTET_STREAM:
            return [Offer(OCTET_STREAM, True, _bulk_syntax(syntax))]
        return [Offer(DICOM, kind.multipart, wanted) for wanted in web_transfer_syntaxes(syntax)]

    return _choose_each(stored, offers, negotiate)


def choose_bulk_data(stored: Sequence[StoredInstance], negotiate: Negotiate, *, pixel_data_only: bool) -> Choice:
    """Choose between code streams by their own name and as octets. Raises NotAcceptable when nothing fits."""

    def offers(syntax: Uid) -> list[Offer]:
        names = [OCTET_STREAM] if is_uncompressed(syntax) or not pixel_data_only else code_stream_names(syntax)
        return [Offer(name, True, _bulk_syntax(syntax)) for name in names]

    return _choose_each(stored, offers, negotiate)


def code_stream_names(syntax: Uid) -> list[str]:
    """Give the media types for the frames of a compressed transfer syntax, its own first."""
    return list(dict.fromkeys((code_stream_type(syntax), OCTET_STREAM)))


def _choose_each(
    stored: Sequence[StoredInstance], offers: Callable[[Uid], list[Offer]], negotiate: Negotiate
) -> Choice:
    by_syntax: dict[Uid, Offer] = {}
    refused: NotAcceptable | None = None
    for syntax in _syntaxes(stored):
        try:
            by_syntax[syntax] = negotiate(offers(syntax))
        except NotAcceptable as error:
            refused = error
    if not by_syntax and refused is not None:
        everything = dict.fromkeys(offer for syntax in _syntaxes(stored) for offer in offers(syntax))
        raise NotAcceptable(refused.problem, ", ".join(map(str, everything)))
    chosen = [(one, by_syntax[one.transfer_syntax_uid]) for one in stored if one.transfer_syntax_uid in by_syntax]
    return Choice(chosen[0][1], tuple(chosen))


def _syntaxes(stored: Sequence[StoredInstance]) -> list[Uid]:
    return list(dict.fromkeys(one.transfer_syntax_uid for one in stored))


def _sendable(syntaxes: Sequence[Uid]) -> list[Uid]:
    """Give all transfer syntaxes that something of it can be sent in, the default of the web first."""
    sendable = dict.fromkeys(wanted for syntax in syntaxes for wanted in web_transfer_syntaxes(syntax))
    return sorted(sendable, key=lambda syntax: syntax != EXPLICIT_VR_LITTLE_ENDIAN)


def _bulk_syntax(syntax: Uid) -> Uid:
    return EXPLICIT_VR_LITTLE_ENDIAN if is_uncompressed(syntax) else syntax
