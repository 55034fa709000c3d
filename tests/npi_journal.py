"""A journal in memory that holds non-patient instances, journalled as they are when they are received."""

from __future__ import annotations

from typing import Any

from router.dicom.envelope import Declared, Source
from router.dicom.header import HeaderScanner
from router.dicom.part10 import PrefaceReader
from router.ingest.non_patient_facts import read_non_patient, wanted_of
from router.journal.acceptance import accept
from router.journal.connection import WritingConnection
from router.journal.records import Acceptance, InstanceRow


class JournalInMemory:
    """A journal that is asked and written to at once."""

    def __init__(self, conn: WritingConnection):
        self.conn = conn

    async def search(self, query: Any) -> Any:
        return query(self.conn)

    def put(self, file: bytes) -> None:
        """Journal an instance as it is when it is received."""
        reader = PrefaceReader()
        content = reader.feed(file)
        assert reader.declared is not None
        declared: Declared = reader.declared
        scanner = HeaderScanner(declared.transfer_syntax_uid, wanted_of(declared.sop_class_uid) | {(0x00080018,)})
        scanner.feed(content)
        digest = len(file).to_bytes(32, "big")
        row = InstanceRow(declared, Source("C-STORE", "::1"), f"1/{hash(file)}.dcm", 1, len(content), digest, 1.0)
        keys = read_non_patient(declared, scanner.finish())
        accept(self.conn, Acceptance(None, None, row, (), (), keys))
