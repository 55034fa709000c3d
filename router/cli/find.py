"""`sendrs find`: search a DIMSE peer (C-FIND)."""

from __future__ import annotations

import sys
from typing import Annotated

import anyio
import typer

from router.cli.console import print_json
from router.cli.exits import ExitCode
from router.cli.find_report import COLUMNS, show_count, show_found
from router.cli.keys import KeyOption, add_returned, read_keys
from router.cli.nodes import NodeArgument, TitleOption, bad, fail, find_node
from router.cli.options import ConfigOption, TimeoutOption
from router.delivery.query import FindClient
from router.delivery.query_identifiers import UnfitQuery, level_named, model_named
from router.dicom.attributes import attribute_path
from router.dicom.json_model import JsonDataSet, in_order
from router.errors import DeliveryError

LevelOption = Annotated[str, typer.Option("--level", "-l", metavar="LEVEL", help="patient, study, series or image.")]
ModelOption = Annotated[
    str,
    typer.Option(
        "--model",
        metavar="MODEL",
        help="study or patient: the root of the information model.",
        show_default="study, or patient for that level",
    ),
]


def find(
    node: NodeArgument,
    config: ConfigOption,
    level: LevelOption = "study",
    key: KeyOption = None,
    returned: Annotated[
        list[str] | None,
        typer.Option(
            "--return", "-r", metavar="KEYWORD", help="Show this too; may be repeated, or several with commas."
        ),
    ] = None,
    model: ModelOption = "",
    relational: Annotated[
        bool, typer.Option("--relational", help="Ask with keys of any level, which not every peer can answer.")
    ] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1_000_000, help="At most so many.")] = 1000,
    aet: TitleOption = "",
    timeout: TimeoutOption = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the answers as a DICOM JSON array.")] = False,
) -> int:
    """Search what a DIMSE peer holds (C-FIND).

    For example: sendrs find PACS@10.1.2.3:104 -k "PatientName=ALL*" -k StudyDate=20260101-20260131

    Below the level study, say of which study (and series): -k StudyInstanceUID=…. With --json the answers are printed
    as a DICOM JSON array. Exit code 0: found something. 1: found nothing. 69: the peer refused, or could not be
    reached.
    """
    peer = find_node(node, config, aet=aet, timeout=timeout)
    model = model or ("patient" if level.lower() == "patient" else "study")
    try:
        wanted = level_named(level, model_named(model))
    except UnfitQuery as error:
        bad("--level", str(error))
    keys = read_keys(key or ())
    asked = [(int(name, 16),) for name, element in keys.items() if element["vr"] != "SQ"]
    more = [*asked, *add_returned(keys, returned or ())]
    add_returned(keys, (column.keyword for column in COLUMNS[wanted]))
    above = {attribute_path(one.unique_keyword) for one in model_named(model).above(wanted)}
    client = FindClient(peer.dimse)
    found: list[JsonDataSet] = []
    try:
        anyio.run(lambda: _ask(client, found, level, in_order(keys), model, relational, limit))
    except UnfitQuery as error:
        bad("--key", f"{error}{'' if relational else '; --relational asks all the same'}")
    except DeliveryError as error:
        return fail(peer, error)
    if relational and not client.granted_relational:
        print(
            f"sendrs: {peer} did not agree to relational queries, so its answer may leave things out", file=sys.stderr
        )
    if as_json:
        print_json(found)
    else:
        if found:
            show_found(wanted, found, [path for path in more if path not in above])
        show_count(wanted, peer, len(found), cut_short=client.cut_short, keys_ignored=client.keys_ignored)
    return ExitCode.OK if found else ExitCode.FOUND_PROBLEMS


async def _ask(
    client: FindClient,
    found: list[JsonDataSet],
    level: str,
    keys: JsonDataSet,
    model: str,
    relational: bool,
    limit: int,
) -> None:
    async with client:
        async for one in client.find(level, keys, model=model, relational=relational, limit=limit):
            found.append(one)  # noqa: PERF401 what came before it broke off is kept
