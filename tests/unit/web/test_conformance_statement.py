"""docs/conformance.md says what the code does: its tables are made here from the code, and must stand there so."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from router.config.load import load_config
from router.config.model import Config, HttpConfig
from router.dicom import compose, metadata
from router.dicom.attributes import AttributePath, path_name
from router.dicom.commitment import MAX_REFERENCES
from router.dicom.non_patient import CATEGORIES
from router.dicom.sub_operation_status import FAILURE, PENDING, SUCCESS, WARNING
from router.dicomweb import commitment_module
from router.dicomweb.media_types import DICOM_JSON
from router.dicomweb.metadata_parts import MAX_DATA_SET_BYTES, MAX_METADATA_BYTES, MAX_OBJECTS
from router.dicomweb.multipart import PartLimits
from router.dicomweb.query_string import MAX_BYTES, MAX_PARAMETERS
from router.dicomweb.send_answer import Kind, read_answer
from router.dicomweb.send_client import MOVES, Phase
from router.http_server import FLOOR_BYTES, MAX_FIELD_BYTES, MAX_FIELDS, MAX_HEAD_BYTES, MAX_TARGET_BYTES, WRITE_S
from router.journal.readers import READ_LIMIT_S
from router.search.levels import Entity, entity_of
from router.search.plan import MATCHED
from router.web import commitment
from router.web.app import DEFAULT_LIMITS
from router.web.body import IDLE_S, MIN_BYTES_PER_S
from router.web.bulk_parts import MAX_VALUES
from router.web.capabilities import CAPABILITIES, DocumentedRoute, documented
from router.web.commitment import commitment_routes
from router.web.intake_metadata import MAX_INSTANCES
from router.web.module_body import LARGE_AT_ONCE, LARGE_S, SMALL_BYTES
from router.web.npi import npi_routes
from router.web.retrieve import retrieve_routes
from router.web.search import MAX_RESULTS, MAX_WHOLE_RESULTS, search_routes
from router.web.send import send_routes
from router.web.send_service import POLLS_AT_ONCE, POLLS_PER_S
from router.web.stow import store_routes

PAGE = Path(__file__).parents[3] / "docs" / "conformance.md"
NOTHING = cast(Any, None)
"""Stands for stores, journals and doors: no endpoint is called here."""
INSTANCES = "/studies/{study}/series/{series}/instances"
MACROS = {
    "code": ("CodeValue", "LongCodeValue", "URNCodeValue", "CodingSchemeDesignator", "CodingSchemeVersion"),
    "instance": ("ReferencedSOPClassUID", "ReferencedSOPInstanceUID"),
}
TRANSACTIONS = (
    "Retrieve Capabilities",
    "Retrieve",
    "Store",
    "Search",
    "Send",
    "Check Send Result",
    "Storage Commitment Request",
    "Storage Commitment Result Check",
)
MODULE = b'[{"00000900": {"vr": "US", "Value": [0]}}]'
ANSWERS: Mapping[str, tuple[bytes, Sequence[int]]] = {
    "`200` with the module": (MODULE, [200]),
    "`202`, or Status Pending": (MODULE, [202]),
    "`200` without a module that can be read": (b"", [200, 201, 204]),
    "`404`": (b"", [404]),
    "`409`": (b"", [409]),
    "`410`": (b"", [410]),
    "`408` `425` `429` `500` `502` `503` `504`": (b"", [408, 425, 429, 500, 502, 503, 504]),
    "any other status": (b"", [301, 400, 401, 403, 405, 406, 413, 414, 415, 418, 421, 501, 505]),
}
SETTINGS = {
    "Base URI: address and port": "http.listen",
    "Base URI: path": "http.base_path",
    "addresses other than loopback, without TLS": "http.insecure_http",
    "names of the Base URI": "http.names",
    "Base URI behind a reverse proxy": "http.public_url",
    "wait for the end": "http.sync_budget_s",
    "wait for the end, at most": "http.max_sync_s",
    "result is kept": "http.result_ttl_s",
    "Transaction UID is remembered": "http.tombstone_ttl_s",
    "instances in one request": "http.max_send_instances",
    "requests without a key": "http.allow_unfiltered_send",
    "a request ends": "sending.request_lifetime_s",
    "first retry": "sending.backoff_first_s",
    "retries, at most apart": "sending.backoff_cap_s",
}


def routes() -> list[DocumentedRoute]:
    """All that the daemon tells of in its capabilities (`app`), below an empty base path."""
    config = Config(file=Path("router.toml"), http=HttpConfig(base_path=""))
    return [
        documented("OPTIONS", "/", _no_endpoint, CAPABILITIES),
        *store_routes(config.http, NOTHING, DEFAULT_LIMITS, lambda: NOTHING),
        *search_routes("", NOTHING),
        *retrieve_routes("", NOTHING, NOTHING),
        *send_routes("", NOTHING, NOTHING, dict, config),
        *commitment_routes("", NOTHING, config.http),
        *npi_routes(config, NOTHING, DEFAULT_LIMITS, lambda: NOTHING, NOTHING, NOTHING, NOTHING, dict),
    ]


def limits() -> list[str]:
    """The limits of the web front."""
    kib, mib, parts = 1024, 1024**2, PartLimits().parts
    rows = {
        "request line and head": f"{MAX_TARGET_BYTES // kib} KiB and {MAX_HEAD_BYTES // kib} KiB,"
        f" {MAX_FIELDS} fields of {MAX_FIELD_BYTES // kib} KiB",
        "query": f"{MAX_BYTES // kib} KiB, {MAX_PARAMETERS} parameters",
        "body": f"{IDLE_S:g} s without a byte, or less than {MIN_BYTES_PER_S // kib} KiB/s over a minute: 408",
        "reader of an answer": f"takes {FLOOR_BYTES // kib} KiB or all that is left in each {WRITE_S:g} s,"
        " or the connection is closed",
        "Store": f"{parts:,} parts; of metadata {MAX_METADATA_BYTES // mib} MiB a part,"
        f" {MAX_DATA_SET_BYTES // mib} MiB an instance, {MAX_INSTANCES:,} instances, {MAX_OBJECTS:,} elements,"
        f" sequences {compose.MAX_DEPTH} deep",
        "Search": f"{MAX_RESULTS:,} results a page, with `includefield=all` {MAX_WHOLE_RESULTS};"
        f" {READ_LIMIT_S:g} s (413)",
        "Metadata": f"{metadata.MAX_DEPTH} sequences deep, {metadata.MAX_ELEMENTS:,} elements and items,"
        f" {metadata.MAX_INLINE_BYTES // mib} MiB of values that are not bulk data",
        "Bulkdata of an instance": f"{MAX_VALUES} values; each can be had by itself",
        "Send": f"{HttpConfig().max_send_instances:,} instances (`[http] max_send_instances`);"
        f" {POLLS_PER_S:g} questions a second for one request and caller, {POLLS_AT_ONCE} at once",
        "Storage Commitment": f"{MAX_REFERENCES:,} instances, {commitment_module.MAX_BYTES // mib} MiB a request;"
        f" {LARGE_AT_ONCE} of more than {SMALL_BYTES // kib} KiB at once, {LARGE_S:g} s each;"
        f" {commitment.POLLS_PER_S:g} questions a second for one result and caller, {commitment.POLLS_AT_ONCE} at once",
    }
    return [f"| {what} | {value} |" for what, value in rows.items()]


async def _no_endpoint(request: Any) -> Any:
    raise NotImplementedError


def resources() -> list[str]:
    """One row for neighbours that answer in the same way."""
    rows: dict[tuple[str, ...], dict[str, None]] = {}
    for route in routes():
        transaction = route.transaction
        path = re.sub(rf"^/({'|'.join(CATEGORIES)})", "/{npi-name}", route.path).replace(":path}", "}")
        title = next(name for name in TRANSACTIONS if transaction.title.startswith(name))
        about = title, route.method, _code(transaction.produces), " ".join(map(str, transaction.statuses))
        rows.setdefault(about, {})[path.replace(INSTANCES, "…")] = None
    return [
        f"| {title} | {method} | {_code(paths)} | {media_types} | {statuses} |"
        for (title, method, media_types, statuses), paths in rows.items()
    ]


def keys() -> list[str]:
    return [
        f"| {entity.name.lower()} | {_code(map(path_name, _matched(entity)))} |" for entity in Entity
    ]  # in the order of the levels


def npi_classes() -> list[str]:
    return [f"| `{one.name}` | {', '.join(one.tables)} |" for one in CATEGORIES.values()]


def npi_keys() -> list[str]:
    return [f"| `{one.name}` | {_code(_with_macros(one.matched))} |" for one in CATEGORIES.values()]


def user_agent() -> list[str]:
    rows = []
    for words, (body, statuses) in ANSWERS.items():
        [kind] = {read_answer(status, DICOM_JSON, body).kind for status in statuses}
        rows.append(f"| {words} | {MOVES[Phase.SENDING][kind].value} | {MOVES[Phase.FOLLOWING][kind].value} |")
    lost = " | ".join(MOVES[phase][Kind.LOST].value for phase in (Phase.SENDING, Phase.FOLLOWING))
    return [*rows, f"| no answer | {lost} |"]


def configuration() -> list[str]:
    config = Config(file=Path("router.toml"))
    rows = []
    for words, place in SETTINGS.items():
        table, _, key = place.partition(".")
        rows.append(f"| {words} | `[{table}] {key}` | `{_toml(getattr(getattr(config, table), key), key)}` |")
    return rows


def _code(texts: Iterable[str]) -> str:
    return " ".join(f"`{text}`" for text in texts)


def _matched(entity: Entity) -> list[AttributePath]:
    return sorted(path for path in MATCHED if entity_of(path[0]) is entity)


def _with_macros(paths: Iterable[AttributePath]) -> list[str]:
    """Write the attributes of a code, which stand together, as one."""
    names = [path_name(path) for path in paths][2:]  # the UIDs come first, and are said of all
    written: dict[str, None] = {}
    for outer, inner in groupby(names, lambda name: name.rpartition(".")[0]):
        lasts = tuple(name.rpartition(".")[2] for name in inner)
        macro = next((macro for macro, attributes in MACROS.items() if outer and attributes == lasts), "")
        for name in [f"{outer} ({macro})"] if macro else [f"{outer}.{last}".lstrip(".") for last in lasts]:
            written[name] = None
    return list(written)


def _toml(value: Any, key: str) -> str:
    if hasattr(value, "port"):
        return f'"{value.host}:{value.port}"'
    if key.endswith("_s") and value >= 3600:
        return f'"{value / 86_400:g}d"' if value >= 86_400 else f'"{value / 3600:g}h"'
    return f"{value:g}" if isinstance(value, float) else msgspec.json.encode(value).decode()


@pytest.fixture(scope="module")
def lines() -> list[str]:
    return PAGE.read_text().splitlines()


def statuses_below(lines: Sequence[str], heading: str) -> list[int]:
    """Give the status codes of the first table below a line."""
    at = next(number for number, line in enumerate(lines) if line.endswith(heading))
    table = lines[at + 2 :]
    rows = table[: table.index("")]
    return [int(found[1]) for row in rows if (found := re.match(r"\| `(\d{3})` \|", row))]


@pytest.mark.parametrize("table", [limits, resources, keys, npi_classes, npi_keys, user_agent, configuration])
def test_req_074_req_081_req_154_tables_are_those_of_the_code(table: Any, lines: list[str]) -> None:
    """REQ-155, REQ-156: those of the user agent; all others of search, retrieve, store and send."""
    rows = table()
    assert rows[0] in lines, f"docs/conformance.md lacks\n{chr(10).join(rows)}"
    at = lines.index(rows[0])
    assert lines[at : at + len(rows)] == rows
    assert lines[at + len(rows)] == ""


def test_req_155_req_156_status_codes_of_the_send_transactions_are_those_of_the_code(lines: list[str]) -> None:
    sends = [route for route in routes() if "send-requests" in route.path]
    assert {route.method for route in sends} == {"POST", "GET"}
    for route in sends:
        heading = "As origin server, Send:" if route.method == "POST" else "Check Send Result:"
        assert statuses_below(lines, heading) == list(route.transaction.statuses), route.path


def test_the_statuses_of_the_module_are_those_of_the_code() -> None:
    text = PAGE.read_text()
    for status in (PENDING, SUCCESS, WARNING, FAILURE):
        assert f"{status:04X}H" in text


def test_req_148_req_149_the_overviews_have_a_row_for_send_and_check(lines: list[str]) -> None:
    """REQ-002: and call them SEND-RS."""
    assert "| Send and Check Send Result (SEND-RS) | All Studies Send Requests | yes | yes |" in lines
    assert "| Send and Check Send Result | yes | yes |" in lines
    assert sum("Send Requests | yes | yes |" in line for line in lines) == 6


def test_the_defaults_stand_there_as_they_can_be_configured(tmp_path: Path, lines: list[str]) -> None:
    file = tmp_path / "router.toml"
    texts: dict[str, list[str]] = {}
    for row in configuration():
        found = re.search(r"`\[(\w+)\] (\w+)` \| `(.*)` \|$", row)
        assert found
        texts.setdefault(found[1], []).append(f"{found[2]} = {found[3]}")
    state = f'[state]\npath = "{tmp_path}"\nunsafe_filesystem = true\n'
    file.write_text(state + "".join(f"[{table}]\n{chr(10).join(keys)}\n" for table, keys in texts.items()))
    read, default = load_config(file), Config(file=file)
    assert (read.http, read.sending) == (default.http, default.sending)
