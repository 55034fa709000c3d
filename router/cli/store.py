"""`sendrs store`: send PS3.10 files to a DIMSE peer (C-STORE)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import anyio
import anyio.to_thread
import typer

from router.cli.exits import ExitCode
from router.cli.logs import set_up_logging
from router.cli.nodes import Node, NodeArgument, TitleOption, bad, fail, find_node
from router.cli.options import ConfigOption, JsonOption, TimeoutOption
from router.cli.store_report import StoreReport
from router.config.model import DimseDestination, LogConfig
from router.delivery.cstore import CStoreCourier
from router.delivery.file_contents import FileContents, read_delivery
from router.errors import DeliveryError, Refused
from router.journal.records import Delivery

AT_ONCE = 500
"""Files that are looked at before they are sent, so that one association can be proposed what they need."""


def store(
    node: NodeArgument,
    paths: Annotated[list[Path], typer.Argument(metavar="PATH", help="PS3.10 files, and folders of them.")],
    config: ConfigOption,
    aet: TitleOption = "",
    timeout: TimeoutOption = "",
    as_json: JsonOption = False,
) -> int:
    """Send PS3.10 files to a DIMSE peer (C-STORE), as they are.

    For example: sendrs store PACS@10.1.2.3:104 ct/ mr.dcm

    What lies in a folder and is no DICOM file is left out. A file that the peer does not take is reported, and the
    others go on. Exit code 0: the peer has them all. 1: not all. 69: it could not be reached, or refused.
    """
    peer = find_node(node, config, aet=aet, timeout=timeout)
    set_up_logging(LogConfig(level="error"))  # what the courier would log is in the report
    report = StoreReport(peer, as_json=as_json)
    try:
        files = list(_files(paths))
        with report:
            report.count(len(files))
            anyio.run(_store, peer, files, report)
    except DeliveryError as error:
        report.show()
        return fail(peer, error)
    report.show()
    return ExitCode.OK if report.all_well else ExitCode.FOUND_PROBLEMS


def _files(paths: Sequence[Path]) -> Iterator[tuple[Path, bool]]:
    """Give each file, and whether it was named itself."""
    for path in paths:
        if path.is_dir():
            for folder, folders, names in os.walk(path, onerror=_raise):
                folders.sort()
                yield from ((Path(folder, name), False) for name in sorted(names))
        elif path.exists():
            yield path, True
        else:
            bad("PATH", f"{path} does not exist")


def _raise(error: OSError) -> None:
    raise error


async def _store(peer: Node, files: Sequence[tuple[Path, bool]], report: StoreReport) -> None:
    dimse = peer.dimse
    destination = DimseDestination(
        name=peer.name,
        ae_title=dimse.ae_title,
        host=dimse.host,
        port=dimse.port,
        connect_s=dimse.connect_s,
        answer_s=dimse.answer_s,
    )
    session = CStoreCourier(destination, dimse.calling_aet, FileContents()).session()
    try:
        for first in range(0, len(files), AT_ONCE):
            ready = await anyio.to_thread.run_sync(_looked_at, first, files[first : first + AT_ONCE], report)
            if ready:
                await session.deliver(ready, report.take)
    finally:
        with anyio.CancelScope(shield=True):
            await session.aclose()


def _looked_at(first: int, files: Sequence[tuple[Path, bool]], report: StoreReport) -> list[Delivery]:
    """Read what the files say they are; those that cannot be sent are reported."""
    found = []
    for number, (path, named) in enumerate(files, start=first):
        try:
            found.append(read_delivery(number, path))
        except Refused as error:
            report.leave_out(path, error.reason, named=named)
        except OSError as error:
            report.leave_out(path, error.strerror or str(error), named=True)
    return found
