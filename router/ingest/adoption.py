"""Accept a file that is already in the store, whole and flushed, as if it had just been received (D8, D10)."""

from __future__ import annotations

from functools import partial
from typing import Final

from router.dicom.header import Header, HeaderScanner
from router.dicom.part10 import StoredPreface
from router.errors import StorageError
from router.ingest.facts import check_declared, read_facts
from router.ingest.visit import Visit
from router.journal.acceptance import accept, mark_flushed
from router.journal.connection import WritingConnection
from router.journal.records import Acceptance, Accepted
from router.store.files import Store, StoredFile

SCAN_BYTES: Final = 64 * 1024
"""Read at once while the header is scanned; nearly all headers end within."""


async def adopt(visit: Visit, store: Store, preface: StoredPreface, stored: StoredFile) -> Accepted:
    """Decide by the rules in force now, and journal. The caller removes the file when it is coalesced.

    Raises Refused when the instance cannot be understood, DamagedFile, StorageError.
    """
    ingest = visit.ingest
    odd_uids = ingest.config.dicom.accept_odd_uids
    check_declared(preface.declared, odd_uids=odd_uids)
    book = ingest.rules()
    wanted = ingest.wanted_by(book, preface.declared.sop_class_uid)
    scanner = HeaderScanner(preface.declared.transfer_syntax_uid, wanted)
    header = await _scan(store, stored, scanner)
    facts = read_facts(preface.declared, header, odd_uids=odd_uids)
    decision = book.decide(preface.source, header)
    acceptance = visit.acceptance(preface.declared, preface.source, preface.received_at, facts, decision, stored)
    distrusted = ""
    for _ in range(3):
        accepted = await ingest.journal.write(
            partial(_accept_flushed, acceptance=acceptance, distrusted_file=distrusted)
        )
        earlier = StoredFile(accepted.file, accepted.data_set_offset, stored.data_set_bytes, stored.data_set_sha256)
        if not accepted.coalesced or await store.holds(earlier):
            visit.accepted(acceptance, accepted)
            return accepted
        distrusted = accepted.file
    raise StorageError(f"no sound file for {preface.declared.sop_instance_uid}")


async def _scan(store: Store, stored: StoredFile, scanner: HeaderScanner) -> Header:
    async with store.open_data_set(stored, chunk_bytes=SCAN_BYTES) as reader:
        while not scanner.done and (chunk := await reader.next()):
            scanner.feed(chunk)
    return scanner.finish()


def _accept_flushed(conn: WritingConnection, acceptance: Acceptance, distrusted_file: str) -> Accepted:
    accepted = accept(conn, acceptance, distrusted_file)
    if not accepted.coalesced:
        mark_flushed(conn, (accepted.instance_id,))
    return accepted
