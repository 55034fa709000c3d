"""The DIMSE front alone, as a process: `python -m bench.forgetful_scp PORT` takes instances and keeps nothing of them.

What the daemon's front and the interpreter cost, before any file is written, flushed or journalled. With a file as
second argument each instance is written into it and flushed before its answer, over and over in the same place, on one
thread: the least that anybody must do who answers from Python and forgets nothing.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import anyio

from router.config.model import DicomConfig, Listen
from router.dicom.envelope import Declared, Source
from router.dicom.uids import Uid
from router.scp.server import StorageScp
from router.store.workers import Workers

LOG_BYTES = 64 * 1024**2


class Forgetful:
    """Door, visit and reception in one."""

    def open_visit(self, source: Source) -> Forgetful:
        return self

    def has_room(self) -> bool:
        return True

    def receive(self, declared: Declared) -> Forgetful:
        return self

    async def close(self) -> None:
        pass

    async def write(self, chunk: bytes | bytearray | memoryview) -> None:
        pass

    async def accept(self, *, study_instance_uid: Uid | None = None) -> None:
        pass

    async def discard(self) -> None:
        pass


class Flushing(Forgetful):
    """Flushes the instances of one association into `log`, which has its whole size from the start."""

    def __init__(self, log: Path):
        log.write_bytes(bytes(LOG_BYTES))
        self._fd = os.open(log, os.O_WRONLY)
        os.fsync(self._fd)
        self._at = 0
        self._held = bytearray()
        self._workers = Workers("log", 1)

    async def write(self, chunk: bytes | bytearray | memoryview) -> None:
        self._held += chunk

    async def accept(self, *, study_instance_uid: Uid | None = None) -> None:
        held, self._held = self._held, bytearray()
        await self._workers.run(lambda: self._flush(held))

    def _flush(self, held: bytearray) -> None:
        if self._at + len(held) > LOG_BYTES:
            self._at = 0
        self._at += os.pwrite(self._fd, held, self._at)
        os.fdatasync(self._fd)


async def main(port: int, log: Path | None = None) -> None:
    config = DicomConfig(ae_title="SENDRS", listen=Listen("127.0.0.1", port), connections_burst=1000)
    await StorageScp(config, {}, Forgetful() if log is None else Flushing(log)).run()


if __name__ == "__main__":
    anyio.run(main, int(sys.argv[1]), *map(Path, sys.argv[2:3]))
