"""What we know of an instance besides its data set: where it came from and what it declared itself to be.

Both travel with the file, in its File Meta Information (PS3.10 §7.1): the journal can be rebuilt from the store.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from router.dicom.uids import AETitle, Uid

Protocol = Literal["C-STORE", "STOW-RS"]


class Source(msgspec.Struct, frozen=True):
    """Who handed an instance to us. `calling_aet` and `called_aet` are empty for the web."""

    protocol: Protocol
    address: str
    calling_aet: AETitle = AETitle("")
    called_aet: AETitle = AETitle("")


class Declared(msgspec.Struct, frozen=True):
    """What the sender says that it sends, in the C-STORE command or the File Meta of a STOW part.

    Not yet checked against the data set.
    """

    sop_class_uid: Uid
    sop_instance_uid: Uid
    transfer_syntax_uid: Uid
