"""C-FIND as a service (PS3.4 §C.4.1, §K.4.1): Patient Root, Study Root, and the models of non-patient instances.

Answers come page by page from the search core, so that memory is bounded by a page and a cancel is heeded soon.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Final, NamedTuple

import anyio
import structlog

from router.dicom.attributes import path_name
from router.dicom.identifier import BadIdentifier, character_set_of, read_identifier, write_identifier
from router.dicom.json_model import JsonDataSet
from router.dicom.non_patient_models import NON_PATIENT_MODELS
from router.dicom.query_retrieve import CANCELLED, PATIENT_ROOT, STUDY_ROOT
from router.dicom.uids import AETitle, Uid
from router.dimse.events import Command, Roles
from router.errors import StorageError
from router.scp.escape import printable
from router.scp.find_answer import answer_non_patient, answer_patient
from router.scp.find_non_patient import NonPatientQuery, read_non_patient_query
from router.scp.find_question import Query, grant, read_granted, read_query
from router.scp.query_levels import LEVEL
from router.scp.service import Exchange, Invocation
from router.search import Index, QueryTooLong
from router.search.non_patient import NonPatientIndex

log = structlog.get_logger()

C_FIND_RQ: Final = 0x0020
SUCCESS: Final = 0x0000
PENDING: Final = 0xFF00
PENDING_IN_PART: Final = 0xFF01
OUT_OF_RESOURCES: Final = 0xA700
DOES_NOT_MATCH_SOP_CLASS: Final = 0xA900
UNABLE_TO_PROCESS: Final = 0xC001
"""The query takes too long."""

PAGE: Final = 200
"""Answers that are in memory at once: half a megabyte."""

_MODELS: Final = {model.find: model for model in (PATIENT_ROOT, STUDY_ROOT)}
_NON_PATIENT_MODELS: Final = {model.find: model for model in NON_PATIENT_MODELS}


class End(NamedTuple):
    """The last response: its status, Error Comment and Offending Elements."""

    status: int
    comment: str = ""
    tags: tuple[int, ...] = ()


class FindService:
    """Answers C-FIND from our own index, at most `max_results()` times a query."""

    def __init__(self, index: Index, non_patient: NonPatientIndex, *, max_results: Callable[[], int]):
        self._index, self._non_patient, self._max_results = index, non_patient, max_results
        self.sop_classes: Mapping[Uid, frozenset[int]] = dict.fromkeys(
            [*_MODELS, *_NON_PATIENT_MODELS], frozenset({C_FIND_RQ})
        )

    def grant(self, sop_class: Uid, offered: bytes) -> bytes:
        """Answer extended negotiation; the models of non-patient instances have none (PS3.4 §GG.2)."""
        return grant(offered) if sop_class in _MODELS else b""

    def roles(self, sop_class: Uid, proposed: Roles) -> Roles:
        """Let the requestor be the SCU, never the SCP."""
        return Roles(proposed.scu, False)

    async def perform(self, invocation: Invocation, exchange: Exchange) -> None:
        """Answer one C-FIND."""

        async def answer(status: int, data_set: bytes) -> None:
            await exchange.respond(Command(0, status=status), data_set)

        try:
            end = await self._answer(invocation, exchange.cancelled, answer)
        except BadIdentifier as error:
            end = End(DOES_NOT_MATCH_SOP_CLASS, error.problem, error.tags)
        except QueryTooLong:
            end = End(UNABLE_TO_PROCESS, "the query takes too long: narrow it down")
        except StorageError as error:
            log.error("query not answered", error=str(error))
            end = End(OUT_OF_RESOURCES, "the index cannot be read, try again later")
        if end.tags:  # which attributes, never the comment: it may tell what was asked
            offending = [path_name((tag,)) for tag in end.tags]
            log.warning("query refused", calling_aet=printable(invocation.calling_aet), offending=offending)
        await exchange.respond(Command(0, status=end.status, error_comment=end.comment, offending_elements=end.tags))

    async def _answer(
        self, invocation: Invocation, cancelled: anyio.Event, answer: Callable[[int, bytes], Awaitable[None]]
    ) -> End:
        """Give all answers; says how it ended."""
        query = _read(invocation)
        pending = PENDING_IN_PART if query.is_partly_ignored else PENDING
        syntax = invocation.context.transfer_syntax
        character_set = character_set_of(invocation.data_set, syntax)
        left = most = self._max_results()
        if isinstance(query, NonPatientQuery):
            found = self._non_patients(query, invocation.called_aet)
        else:
            found = self._patients(query, invocation.called_aet, most + 1)
        async with aclosing(found) as data_sets:
            async for data_set in data_sets:
                if cancelled.is_set():
                    return End(CANCELLED)
                if not left:
                    return End(OUT_OF_RESOURCES, f"more than {most} matches: narrow the query down")
                await answer(pending, write_identifier(data_set, syntax, character_set=character_set, lenient=True))
                left -= 1
        return End(SUCCESS)

    async def _patients(self, query: Query, called_aet: AETitle, most: int) -> AsyncGenerator[JsonDataSet]:
        found = await self._index.matches(query.plan, most=most)
        for page in _pages(found.ids):
            for result in await self._index.results(query.plan, page, wanted=query.wanted):
                yield answer_patient(query, result.data_set, called_aet)

    async def _non_patients(self, query: NonPatientQuery, called_aet: AETitle) -> AsyncGenerator[JsonDataSet]:
        offset = 0
        while True:
            found = await self._non_patient.find(query.plan, limit=PAGE, offset=offset)
            for result in found.results:
                yield answer_non_patient(query, result.data_set, called_aet)
            offset += len(found.results)
            if not found.results or not found.remaining:
                return


def _read(invocation: Invocation) -> Query | NonPatientQuery:
    """Read what is asked. Raises BadIdentifier."""
    if not invocation.data_set:
        raise BadIdentifier("the request has no identifier", LEVEL)
    data_set = read_identifier(invocation.data_set, invocation.context.transfer_syntax)
    sop_class = invocation.context.abstract_syntax
    if sop_class in _NON_PATIENT_MODELS:
        return read_non_patient_query(_NON_PATIENT_MODELS[sop_class], data_set)
    return read_query(_MODELS[sop_class], data_set, read_granted(invocation.granted))


def _pages(ids: Sequence[int]) -> list[Sequence[int]]:
    return [ids[start : start + PAGE] for start in range(0, len(ids), PAGE)]
