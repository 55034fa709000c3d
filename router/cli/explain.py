"""`sendrs explain`: which rules a file would set off, and why the others would not. Sends and stores nothing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from router.cli.console import print_json, print_lines, print_table
from router.cli.exits import ExitCode
from router.cli.options import ConfigOption, JsonOption
from router.config.load import load_config
from router.dicom import sop_classes, transfer_syntax
from router.dicom.envelope import Declared, Source
from router.dicom.file_meta import PrefaceReader
from router.dicom.header import Header, HeaderScanner
from router.dicom.part10 import MAX_PREFACE_BYTES, ForeignFile, read_preface
from router.dicom.uids import AETitle
from router.errors import Refused
from router.rules import Explanation, RuleBook, load_rules
from router.rules import explain as explain_rules

CHUNK_BYTES = 65_536

_COLOURS = {"fired": "bold green", "voted": "bold green", "vetoed": "yellow"}
_WORDS = {"voted": "fires when quiet", "fired": "fires", "did not fire": "no"}


def explain(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A DICOM file (PS3.10).")],
    config: ConfigOption,
    calling_aet: Annotated[str, typer.Option("--from", metavar="AE", help="As if this AE title had sent it.")] = "",
    called_aet: Annotated[str, typer.Option("--to", metavar="AE", help="As if sent to this AE title of ours.")] = "",
    address: Annotated[str, typer.Option(metavar="IP", help="As if sent from this address.")] = "127.0.0.1",
    as_json: JsonOption = False,
) -> int:
    """Say which rules fire for a file, and why.

    A file out of our own store brings its sender; others are taken as sent by --from.

    For example: sendrs explain image.dcm --from CT1
    """
    loaded = load_config(config)
    book = load_rules(loaded.rules.path, loaded.destinations)
    source = Source("C-STORE", address, AETitle(calling_aet), AETitle(called_aet or loaded.dicom.ae_title))
    if not calling_aet:
        source = _sender_of_stored(file) or source
    try:
        declared, header = _read(file, book)
    except Refused as refused:
        print(f"sendrs: {file}: {refused.reason}", file=sys.stderr)
        return ExitCode.FOUND_PROBLEMS
    explanations = explain_rules(book, source, header)
    if as_json:
        print_json({"file": str(file), "declared": declared, "source": source, "rules": explanations})
    else:
        _print(file, declared, source, header, explanations)
    return ExitCode.OK


def _read(file: Path, book: RuleBook) -> tuple[Declared, Header]:
    """Scan the header of a file for what the rules ask. Raises Refused, OSError."""
    preface = PrefaceReader()
    scanner = None
    with file.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            data_set = preface.feed(chunk)
            if preface.declared is None:
                continue
            scanner = scanner or HeaderScanner(preface.declared.transfer_syntax_uid, book.wanted)
            scanner.feed(data_set)
            if scanner.done:
                break
        else:
            preface.finish()
    assert preface.declared is not None
    scanner = scanner or HeaderScanner(preface.declared.transfer_syntax_uid, book.wanted)
    return preface.declared, scanner.finish()


def _sender_of_stored(file: Path) -> Source | None:
    with file.open("rb") as stream:
        beginning = stream.read(MAX_PREFACE_BYTES)
    try:
        return read_preface(beginning).source
    except ForeignFile:
        return None


def _print(
    file: Path, declared: Declared, source: Source, header: Header, explanations: tuple[Explanation, ...]
) -> None:
    print_lines(
        f"File    {file}: {sop_classes.name_of(declared.sop_class_uid)}, "
        f"{transfer_syntax.name_of(declared.transfer_syntax_uid)}",
        f"Sender  {source.calling_aet or 'an unnamed AE title'} at {source.address}, by {source.protocol}"
        + (f" to {source.called_aet}" if source.called_aet else ""),
    )
    if header.problem:
        print_lines(Text(f"Header  {header.problem}", style="yellow"))
    print_lines("")
    rows = [
        [
            Text(_WORDS.get(each.outcome, each.outcome), style=_COLOURS.get(each.outcome, "dim")),
            each.rule,
            ", ".join(each.destinations),
            f"{Path(each.file).name}:{each.line}",
            "; ".join(each.reasons),
        ]
        for each in explanations
    ]
    print_table(("RESULT", "RULE", "SENDS TO", "AT", "BECAUSE…"), rows)
    if not any(each.outcome in ("fired", "voted") for each in explanations):
        print_lines("", "No rule fires: it would be kept and listed as unrouted.")
