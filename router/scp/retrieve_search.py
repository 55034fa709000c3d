"""From a C-MOVE or C-GET request to the instances that it means, or to what refuses it (PS3.4 Table C.4-2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from router.dicom.identifier import BadIdentifier, read_identifier
from router.dicom.non_patient_models import NON_PATIENT_MODELS, NonPatientModel
from router.dicom.query_retrieve import PATIENT_ROOT, STUDY_ROOT, InformationModel
from router.dicom.uids import Uid
from router.dimse.commands import RESPONSE
from router.dimse.events import Command
from router.errors import StorageError
from router.scp.retrieve_keys import Retrieve, read_non_patient_retrieve, read_retrieve
from router.scp.service import Invocation
from router.search import BadKeys, Index, Plan, QueryTooLong, TooMany
from router.search.non_patient import NonPatientIndex

OUT_OF_RESOURCES_MATCHES: Final = 0xA701
MOVE_DESTINATION_UNKNOWN: Final = 0xA801
IDENTIFIER_DOES_NOT_MATCH: Final = 0xA900
UNABLE_TO_PROCESS: Final = 0xC001
MOST_INSTANCES: Final = 65_535
"""The counters of the responses are US."""
RELATIONAL: Final = b"\x01"
"""Byte 1 of the extended negotiation of C-MOVE and C-GET (Table C.5-3)."""

Model = InformationModel | NonPatientModel
MODELS: Final[tuple[Model, ...]] = (PATIENT_ROOT, STUDY_ROOT, *NON_PATIENT_MODELS)


class RetrieveRefused(Exception):
    """Nothing will be sent. `words` are for the Error Comment, `tags` for Offending Element."""

    def __init__(self, status: int, words: str, tags: Sequence[int] = ()):
        self.status, self.words, self.tags = status, words, tuple(tags)
        super().__init__(f"{status:04X}H {words}")

    def response(self, request: Command) -> Command:
        """Say so; without counters, as there was nothing to count."""
        return Command(
            request.field | RESPONSE, status=self.status, error_comment=self.words, offending_elements=self.tags
        )


class Matched(msgspec.Struct, frozen=True):
    """What a request means: rows of the journal in the order in which they should go."""

    instance_ids: Sequence[int]
    retrieve: Retrieve


class RetrieveSearch:
    """Finds what is asked for. `models` maps each SOP class to its information model."""

    def __init__(self, models: Mapping[Uid, Model], index: Index, non_patient: NonPatientIndex):
        self._models, self._index, self._non_patient = models, index, non_patient

    def grant(self, sop_class: Uid, offered: bytes) -> bytes:
        """Answer extended negotiation: relational retrieval, never conversion to Enhanced Multi-Frame (Table C.5-3)."""
        if not isinstance(self._models.get(sop_class), InformationModel):
            return b""
        return bytes([int(offered[:1] == RELATIONAL), 0][: len(offered)])

    async def match(self, invocation: Invocation) -> Matched:
        """Give the instances of a request. Raises RetrieveRefused."""
        retrieve = read_request(self._models, invocation)
        try:
            ids = await self._match(retrieve)
        except TooMany as error:
            raise RetrieveRefused(
                OUT_OF_RESOURCES_MATCHES, f"{error.count:,} or more match; at most {MOST_INSTANCES:,} can be counted"
            ) from error
        except QueryTooLong as error:
            raise RetrieveRefused(OUT_OF_RESOURCES_MATCHES, "the search took too long, ask for less at once") from error
        except StorageError as error:
            raise RetrieveRefused(UNABLE_TO_PROCESS, "the archive cannot be read just now") from error
        return Matched(ids, retrieve)

    async def _match(self, retrieve: Retrieve) -> Sequence[int]:
        if isinstance(retrieve.plan, Plan):
            found = await self._index.match_set(retrieve.plan, limit=None, offset=0, most=MOST_INSTANCES)
        else:
            found = await self._non_patient.match_set(retrieve.plan, limit=None, offset=0, most=MOST_INSTANCES)
        return found.instance_ids


def read_request(models: Mapping[Uid, Model], invocation: Invocation) -> Retrieve:
    """Read and check the Identifier of a request. Raises RetrieveRefused."""
    model = models[invocation.context.abstract_syntax]
    if not invocation.data_set:
        raise RetrieveRefused(IDENTIFIER_DOES_NOT_MATCH, "the request has no Identifier")
    try:
        identifier = read_identifier(invocation.data_set, invocation.context.transfer_syntax)
        if isinstance(model, NonPatientModel):
            return read_non_patient_retrieve(model, identifier)
        return read_retrieve(model, identifier, relational=invocation.granted[:1] == RELATIONAL)
    except BadIdentifier as error:
        raise RetrieveRefused(IDENTIFIER_DOES_NOT_MATCH, error.problem, error.tags) from error
    except BadKeys as error:
        raise RetrieveRefused(IDENTIFIER_DOES_NOT_MATCH, str(error)) from error
