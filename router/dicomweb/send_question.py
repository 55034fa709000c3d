"""What a user agent asks of a SEND-RS server, as request lines (Sup 248 §10.X.1, §10.Y.1, §12.X.1, §12.Y.1).

Nothing else may go into them: no body, no includefield, and no query at all when checking (REQ-031, REQ-037, REQ-058).
"""

from __future__ import annotations

import difflib
from typing import Final
from urllib.parse import quote, urlsplit

import msgspec

from router.dicom.non_patient import CATEGORIES
from router.dicom.uids import Uid, is_valid_uid
from router.dicomweb import send_rs
from router.dicomweb.media_types import DICOM_JSON

STUDIES: Final = "studies"
SERIES: Final = "series"
INSTANCES: Final = "instances"
_LEVELS: Final = (STUDIES, SERIES, INSTANCES)
NPI_NAMES: Final = tuple(CATEGORIES)


class BadQuestion(ValueError):
    """What cannot be asked. `problem` is a sentence without its full stop, `hint` says what may have been meant."""

    def __init__(self, problem: str, hint: str = ""):
        self.problem, self.hint = problem, hint
        super().__init__(f"{problem}; {hint}" if hint else problem)


class SendQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """Send what matches `match` among `resource` (see `studies_resource`) to the URL `destination`.

    `match` are names and values as a person writes them, before any encoding; several values of one name are a list.
    """

    resource: str
    destination: str
    match: tuple[tuple[str, tuple[str, ...]], ...] = ()
    limit: int | None = None
    offset: int = 0
    fuzzy: bool = False
    empty_value: bool = False
    multiple_value: bool = False
    wait_s: int | None = None
    """Ask the server to answer only at the end, or after so long (Prefer: wait, RFC 7240 §4.3)."""


def studies_resource(level: str, *, study: str = "", series: str = "") -> str:
    """Name one of the six resources of Table 10.X.1-1: `level` below `study`, `series`, or of the whole server.

    Raises BadQuestion.
    """
    if level not in _LEVELS:
        raise _no_such(level, (*_LEVELS, *NPI_NAMES), "a resource")
    for name, uid in (("study", study), ("series", series)):
        if uid and not is_valid_uid(uid):
            raise BadQuestion(f"{uid[:80]!r} is not the UID of a {name}")
    if not study:
        if series:
            raise BadQuestion("a series can be named together with its study only")
        return level
    if level == STUDIES or (series and level == SERIES):
        raise BadQuestion(f"there are no {level} below a {'series' if series else 'study'}")
    return f"{STUDIES}/{study}/{SERIES}/{series}/{level}" if series else f"{STUDIES}/{study}/{level}"


def npi_resource(name: str) -> str:
    """Check the name of a category of non-patient instances (§12.1.1). Raises BadQuestion."""
    if name not in NPI_NAMES:
        raise _no_such(name, NPI_NAMES, "a category of non-patient instances")
    return name


def check_destination(url: str) -> None:
    """Refuse what no server can take as a destination: it must be an absolute URL (REQ-018). Raises BadQuestion."""
    try:
        parts = urlsplit(url)
        whole = bool(parts.scheme and parts.hostname)
    except ValueError:
        whole = False
    if not whole or not url.isprintable() or " " in url:
        raise BadQuestion(
            f"{url[:80]!r} is not an absolute URL", "write the base of its services, such as https://pacs/dicom-web"
        )


def send_target(question: SendQuestion, transaction_uid: Uid) -> str:
    """Write path and query of the Send request, below the Base URI (REQ-016 to REQ-018, REQ-079, REQ-080).

    The destination comes first, as the grammar has it (O-10), and percent-encoded throughout; a comma stands
    unencoded between the values of a list only.
    """
    parameters = [(send_rs.DESTINATION, quote(question.destination, safe=""))]
    parameters += [
        (quote(name, safe=""), ",".join(quote(value, safe="") for value in values)) for name, values in question.match
    ]
    if question.limit is not None:
        parameters.append(("limit", str(question.limit)))
    if question.offset:
        parameters.append(("offset", str(question.offset)))
    for name, asked in (
        ("fuzzymatching", question.fuzzy),
        ("emptyvaluematching", question.empty_value),
        ("multiplevaluematching", question.multiple_value),
    ):
        if asked:
            parameters.append((name, "true"))
    query = "&".join(f"{name}={value}" for name, value in parameters)
    return f"{send_rs.target_path(question.resource, transaction_uid)}?{query}"


def check_target(question: SendQuestion, transaction_uid: Uid) -> str:
    """Write the path of the Check Send Result request, without any query (REQ-056, REQ-058, REQ-092)."""
    return send_rs.target_path(question.resource, transaction_uid)


def send_headers(question: SendQuestion) -> dict[str, str]:
    """The headers of the Send request; those of the Check are `CHECK_HEADERS` (REQ-036, REQ-059)."""
    return CHECK_HEADERS | ({} if question.wait_s is None else {"Prefer": f"wait={question.wait_s}"})


CHECK_HEADERS: Final = {"Accept": DICOM_JSON}


def _no_such(name: str, known: tuple[str, ...], what: str) -> BadQuestion:
    near = difflib.get_close_matches(name[:64], known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
    return BadQuestion(f"{name[:64]!r} is not {what}", hint)
