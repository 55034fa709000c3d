"""`sendrs send`: ask any SEND-RS server to send what it holds to another server, and follow that to the end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import anyio
import typer

from router.cli.exits import ExitCode
from router.cli.options import JsonOption, seconds
from router.cli.send_report import Report
from router.config import forms
from router.config.forms import Unfit
from router.config.named_files import ca_file_problem, secret_file_problem
from router.delivery.send_rs import SendRsClient, Server
from router.dicom.attributes import UnknownAttribute, attribute_path, path_name, vr_of
from router.dicom.uids import Uid, is_valid_uid, new_uid
from router.dicomweb.send_answer import is_delivered
from router.dicomweb.send_client import End, How
from router.dicomweb.send_question import BadQuestion, SendQuestion, check_destination, npi_resource, studies_resource
from router.errors import Misconfigured

_HAVE_OPTIONS = ("limit", "offset", "fuzzymatching", "emptyvaluematching", "multiplevaluematching")


def send(
    server: Annotated[str, typer.Argument(metavar="URL", help="The base of the server's DICOMweb services.")],
    to: Annotated[str, typer.Option("--to", metavar="URL", help="Where it shall send to, as it knows that place.")],
    match: Annotated[
        list[str] | None,
        typer.Option(
            "--match", "-m", metavar="KEYWORD=VALUE", help="Only what matches, as in a search; may be repeated."
        ),
    ] = None,
    resource: Annotated[
        str | None,
        typer.Option(metavar="WHAT", help="studies, series or instances.", show_default="studies"),
    ] = None,
    study: Annotated[str, typer.Option(metavar="UID", help="This study, or what is in it (with --resource).")] = "",
    series: Annotated[str, typer.Option(metavar="UID", help="This series of --study, or its instances.")] = "",
    npi: Annotated[
        str, typer.Option(metavar="NAME", help="Non-patient instances, such as color-palettes, instead of studies.")
    ] = "",
    uid: Annotated[
        str, typer.Option(metavar="UID", help="The Transaction UID; that of an earlier request looks at it again.")
    ] = "",
    limit: Annotated[int | None, typer.Option(min=0, help="At most so many studies, series or instances.")] = None,
    offset: Annotated[int, typer.Option(min=0, help="Leave out the first so many.")] = 0,
    fuzzymatching: Annotated[bool, typer.Option("--fuzzymatching", help="Match names by their sound.")] = False,
    emptyvaluematching: Annotated[
        bool, typer.Option("--emptyvaluematching", help='Match empty values by the value "".')
    ] = False,
    multiplevaluematching: Annotated[
        bool, typer.Option("--multiplevaluematching", help="Match all values of a repeated --match.")
    ] = False,
    wait: Annotated[
        int | None, typer.Option(min=0, max=3600, help="Ask the server to answer at the end, or after so many seconds.")
    ] = None,
    timeout: Annotated[str, typer.Option(metavar="TIME", help='Follow it so long: seconds, or "10m", "2h".')] = "1d",
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Wait for the end.")] = True,
    token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A file with an access token for the server.")
    ] = None,
    ca_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Trust these certificate authorities (PEM).")
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Ask a SEND-RS server to send what it holds to another server, and see it through.

    The server sends; nothing passes through this machine. For example: sendrs send http://vna/dicom-web --to
    https://pacs/dicom-web --match PatientID=123 --match StudyDate=20260101-20260131

    Exit code 0: all that matched was delivered (with --no-follow: the server took it). 1: something failed, or nothing
    matched. 69: the server refused, or could not be reached. 75: not known to be finished; the same command with --uid
    looks again.
    """
    address = Server(
        url=_checked_url(server),
        bearer_token_file=_checked_file("--token-file", token_file, lambda path: secret_file_problem(path)[0]),
        ca_file=_checked_file("--ca-file", ca_file, ca_file_problem),
    )
    if uid and not is_valid_uid(uid):
        raise typer.BadParameter(f"{uid[:80]!r} is not a UID", param_hint="'--uid'")
    named, matches = _resource(resource, study, series, npi)
    question = SendQuestion(
        resource=named,
        destination=_checked_destination(to),
        match=(*matches, *read_matches(match or (), multiple=multiplevaluematching)),
        limit=limit,
        offset=offset,
        fuzzy=fuzzymatching,
        empty_value=emptyvaluematching,
        multiple_value=multiplevaluematching,
        wait_s=wait,
    )
    timeout_s = seconds(timeout, "--timeout")
    with Report(address.url, question, Uid(uid) if uid else new_uid(), as_json=as_json) as report:
        try:
            end = anyio.run(lambda: _ask(address, question, report, timeout_s, follow=follow, may_renew=not uid))
        except Misconfigured as error:
            print(f"sendrs: {error.problem}", file=sys.stderr)
            return ExitCode.UNAVAILABLE
        except KeyboardInterrupt:
            report.interrupted()
            raise
    report.show(end, followed=follow)
    return exit_code(end, followed=follow)


async def _ask(
    server: Server, question: SendQuestion, report: Report, timeout_s: float, *, follow: bool, may_renew: bool
) -> End:
    client = SendRsClient(server, longest_wait_s=question.wait_s or 0.0)
    try:
        return await client.follow(
            question,
            report.uid,
            timeout_s=timeout_s,
            another_uid=new_uid if may_renew else None,
            watch=report.watch,
            until_taken=not follow,
        )
    finally:
        await client.aclose()


def exit_code(end: End, *, followed: bool = True) -> ExitCode:
    """Say by the exit code how it ended; "answered" alone is no success (REQ-049)."""
    match end.how:
        case How.ANSWERED if end.result is not None:
            return ExitCode.OK if is_delivered(end.result) else ExitCode.FOUND_PROBLEMS
        case How.UNFINISHED if not followed:
            return ExitCode.OK
        case How.REFUSED:
            return ExitCode.UNAVAILABLE
        case How.NO_ANSWER if end.taken is False:
            return ExitCode.UNAVAILABLE
        case _:
            return ExitCode.IN_USE


def read_matches(texts: Sequence[str], *, multiple: bool = False) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Read KEYWORD=VALUE; UIDs may be several, with commas or by repetition. Raises typer.BadParameter."""
    found: dict[str, tuple[str, ...]] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise _bad_match(f"{text[:80]!r} has no value: write {text[:80]}=VALUE")
        if name in _HAVE_OPTIONS:
            raise _bad_match(f"{name} is no attribute: use --{name}")
        try:
            path = attribute_path(name)
        except UnknownAttribute as error:
            raise _bad_match(str(error)) from None
        is_uid = vr_of(path[-1]) == "UI"
        values = tuple(value.split(",")) if is_uid else (value,)
        name = path_name(path) if "(" in name else name
        if name in found and not (is_uid or multiple):
            raise _bad_match(f"{name} is given twice; several values need --multiplevaluematching")
        found[name] = found.get(name, ()) + values
    return tuple(found.items())


def _resource(resource: str | None, study: str, series: str, npi: str) -> tuple[str, Sequence[tuple[str, tuple[str]]]]:
    """Give the resource, and what must match besides: a study itself is asked for as one of all studies (O-12)."""
    try:
        if npi:
            if resource or study or series:
                raise BadQuestion("--npi stands alone, without --resource, --study and --series")
            return npi_resource(npi), ()
        if resource is None and (study or series):
            studies_resource("instances", study=study, series=series)  # are they UIDs, and is there a study?
            if series:
                return studies_resource("series", study=study), (("SeriesInstanceUID", (series,)),)
            return studies_resource("studies"), (("StudyInstanceUID", (study,)),)
        return studies_resource(resource or "studies", study=study, series=series), ()
    except BadQuestion as error:
        raise typer.BadParameter(str(error), param_hint="'--npi'" if npi else "'--resource'") from None


def _checked_url(text: str) -> str:
    try:
        return forms.url(text)
    except Unfit as unfit:
        more = unfit.hint or unfit.allowed
        raise typer.BadParameter(f"{unfit.problem}; {more}" if more else unfit.problem, param_hint="'URL'") from None


def _checked_destination(text: str) -> str:
    try:
        check_destination(text)
    except BadQuestion as error:
        raise typer.BadParameter(str(error), param_hint="'--to'") from None
    return text


def _checked_file(option: str, path: Path | None, problem_of: Callable[[Path], str]) -> Path | None:
    problem = problem_of(path) if path is not None else ""
    if problem:
        raise typer.BadParameter(problem, param_hint=f"'{option}'")
    return path


def _bad_match(problem: str) -> typer.BadParameter:
    return typer.BadParameter(problem, param_hint="'--match'")
