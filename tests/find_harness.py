"""C-FIND in process: an archive, the service over it, and an exchange that takes down what is answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio
from search_archive import Archive

from router.dicom.attributes import attribute_path
from router.dicom.identifier import read_identifier, write_identifier
from router.dicom.json_attributes import JsonAttributes
from router.dicom.json_model import JsonDataSet, element, sequence
from router.dicom.query_retrieve import PATIENT_ROOT, STUDY_ROOT
from router.dicom.transfer_syntax import EXPLICIT_VR_LITTLE_ENDIAN
from router.dicom.uids import AETitle, Uid
from router.dimse.events import Command, NegotiatedContext, Roles
from router.scp.find import FindService
from router.scp.service import Invocation
from router.search.non_patient import NonPatientIndex

STUDY, PATIENT = STUDY_ROOT.find, PATIENT_ROOT.find
RELATIONAL = bytes((1,))
COMBINED = bytes((0, 1))
TIMEZONE = bytes((0, 0, 0, 1))
EMPTY_VALUE = bytes((0, 0, 0, 0, 0, 1))
MULTIPLE_VALUE = bytes((0, 0, 0, 0, 0, 0, 1))


def identifier(**keys: Any) -> JsonDataSet:
    """A data set by keywords: texts, tuples of them, or a dictionary for the item of a sequence."""
    data_set = {}
    for keyword, value in keys.items():
        [tag] = attribute_path(keyword)
        if isinstance(value, Mapping):
            data_set[f"{tag:08X}"] = sequence([identifier(**value)])
        else:
            data_set[f"{tag:08X}"] = element(tag, value if isinstance(value, tuple) else (value,))
    return data_set


@dataclass
class TakenDown:
    """An exchange; the peer cancels behind `cancel_after` answers, and is gone behind `gone_after`."""

    syntax: Uid
    cancel_after: int = -1
    contexts: Mapping[int, NegotiatedContext] = field(default_factory=dict)
    roles: Mapping[Uid, Roles] = field(default_factory=dict)
    responses: list[tuple[Command, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.cancelled = anyio.Event()

    async def respond(self, response: Command, data_set: bytes = b"") -> None:
        self.responses.append((response, data_set))
        if len(self.responses) == self.cancel_after:
            self.cancelled.set()

    async def invoke(self, context_id: int, request: Command, content: Any = b"") -> Command:
        raise AssertionError("C-FIND has no sub-operations")

    @property
    def end(self) -> Command:
        """The last response, which must be the only one that is not Pending, and the only one without a data set."""
        *pending, (end, data_set) = self.responses
        assert {one.status for one, _ in pending} <= {0xFF00, 0xFF01}
        assert all(raw for _, raw in pending)
        assert end.status not in (0xFF00, 0xFF01)
        assert data_set == b""
        return end

    @property
    def pending(self) -> set[int | None]:
        return {one.status for one, _ in self.responses[:-1]}

    @property
    def answers(self) -> list[JsonDataSet]:
        return [read_identifier(raw, self.syntax) for _, raw in self.responses[:-1]]

    def values(self, keyword: str) -> list[str]:
        """The values of one attribute in all answers, those of one answer between backslashes."""
        return ["\\".join(JsonAttributes(one).texts(attribute_path(keyword))) for one in self.answers]


async def find(
    archive: Archive,
    model: Uid = STUDY,
    *,
    granted: bytes = b"",
    syntax: Uid = EXPLICIT_VR_LITTLE_ENDIAN,
    character_set: str = "",
    max_results: int = 1000,
    cancel_after: int = -1,
    **keys: Any,
) -> TakenDown:
    """Ask for these keys."""
    raw = write_identifier(identifier(**keys), syntax, character_set=character_set)
    return await find_raw(
        archive, raw, model, granted=granted, syntax=syntax, max_results=max_results, cancel_after=cancel_after
    )


async def find_raw(
    archive: Archive,
    raw: bytes,
    model: Uid = STUDY,
    *,
    granted: bytes = b"",
    syntax: Uid = EXPLICIT_VR_LITTLE_ENDIAN,
    max_results: int = 1000,
    cancel_after: int = -1,
) -> TakenDown:
    service = FindService(
        archive.index, NonPatientIndex(archive.journal, archive.store), max_results=lambda: max_results
    )
    exchange = TakenDown(syntax, cancel_after)
    invocation = Invocation(
        NegotiatedContext(1, model, syntax, 0),
        Command(0x0020, message_id=7, affected_sop_class_uid=model, has_data_set=bool(raw)),
        raw,
        AETitle("ASKER"),
        AETitle("SENDRS"),
        "192.0.2.7",
        granted,
    )
    await service.perform(invocation, exchange)
    return exchange
