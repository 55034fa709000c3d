"""`sendrs move`: have a DIMSE peer send what it holds to another one (C-MOVE), and watch how far it is."""

from __future__ import annotations

import signal
from typing import Annotated

import anyio
import typer
from anyio.abc import TaskStatus

from router.cli.find import LevelOption, ModelOption
from router.cli.keys import KeyOption, read_keys
from router.cli.move_report import MoveReport, exit_code
from router.cli.nodes import Node, NodeArgument, TitleOption, bad, fail, find_node
from router.cli.options import ConfigOption, JsonOption
from router.config import forms
from router.config.forms import Unfit
from router.delivery.query import MoveClient, MoveProgress
from router.delivery.query_identifiers import UnfitQuery, level_named, model_named, move_identifier
from router.dicom.json_model import JsonDataSet
from router.errors import DeliveryError


def move(
    node: NodeArgument,
    config: ConfigOption,
    to: Annotated[str, typer.Option("--to", metavar="AET", help="Where it shall send to: an AE title that it knows.")],
    level: LevelOption = "study",
    key: KeyOption = None,
    model: ModelOption = "",
    aet: TitleOption = "",
    timeout: Annotated[
        str, typer.Option("--timeout", metavar="TIME", help='Wait so long for each answer: seconds, or "10m".')
    ] = "10m",
    as_json: JsonOption = False,
) -> int:
    """Have a DIMSE peer send to another one (C-MOVE).

    For example: sendrs move PACS@10.1.2.3:104 --to WORKSTATION -k StudyInstanceUID=1.2.3

    The peer sends; nothing passes through this machine, unless --to names a router here. What is moved is said by UIDs,
    which "sendrs find" finds. Ctrl-C asks the peer to stop; a second one leaves it alone. Exit code 0: all of it
    arrived. 1: something failed, or nothing matched. 69: the peer refused, or could not be reached. 130: stopped.
    """
    peer = find_node(node, config, aet=aet, timeout=timeout)
    model = model or ("patient" if level.lower() == "patient" else "study")
    keys = read_keys(key or ())
    try:
        root = model_named(model)
        wanted = level_named(level, root)
    except UnfitQuery as error:
        bad("--level", str(error))
    try:
        move_identifier(root, wanted, keys)
    except UnfitQuery as error:
        bad("--key", str(error))
    report = MoveReport(peer, _checked_title(to), as_json=as_json)
    try:
        with report:
            end = anyio.run(lambda: _move(peer, keys, report, level, model))
    except DeliveryError as error:
        return fail(peer, error)
    report.show(end)
    return exit_code(end)


async def _move(peer: Node, keys: JsonDataSet, report: MoveReport, level: str, model: str) -> MoveProgress:
    async with MoveClient(peer.dimse) as client, anyio.create_task_group() as tasks:
        await tasks.start(_cancel_when_interrupted, client, report)
        end: MoveProgress | DeliveryError
        try:
            end = await client.move(keys, report.to, level=level, model=model, progress=report.watch)
        except DeliveryError as error:  # told by itself, not in a group
            end = error
        tasks.cancel_scope.cancel()
    if isinstance(end, DeliveryError):
        raise end
    return end


async def _cancel_when_interrupted(
    client: MoveClient, report: MoveReport, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    with anyio.open_signal_receiver(signal.SIGINT) as interruptions:
        task_status.started()
        async for _ in interruptions:
            if report.stopping:
                raise KeyboardInterrupt
            report.stop()
            await client.cancel()


def _checked_title(text: str) -> str:
    try:
        return forms.ae_title(text)
    except Unfit as unfit:
        bad("--to", f"the AE title {unfit.problem}; allowed: {unfit.allowed}")
