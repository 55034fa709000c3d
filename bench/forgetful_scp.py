"""The DIMSE front alone, as a process: `python -m bench.forgetful_scp PORT` takes instances and keeps nothing of them.

What the daemon's front and the interpreter cost, before any file is written, flushed or journalled.
"""

from __future__ import annotations

import sys

import anyio

from router.config.model import DicomConfig, Listen
from router.dicom.envelope import Declared, Source
from router.dicom.uids import Uid
from router.scp.server import StorageScp


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


async def main(port: int) -> None:
    config = DicomConfig(ae_title="SENDRS", listen=Listen("127.0.0.1", port), connections_burst=1000)
    await StorageScp(config, {}, Forgetful()).run()


if __name__ == "__main__":
    anyio.run(main, int(sys.argv[1]))
