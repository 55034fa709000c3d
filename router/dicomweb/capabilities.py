"""The Capabilities Description (PS3.18 §8.9, Annexes G and H): what a service offers, as WADL in XML or in JSON.

Pure: it is told the resources and never looks for them. `web.capabilities` tells it those that are really routed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal
from xml.etree import ElementTree

import msgspec

from router.dicom.attributes import AttributePath, path_name

WADL = "application/vnd.sun.wadl+xml"
JSON = "application/json"
PROBLEM_JSON = "application/problem+json"

_NAMESPACES = {"xmlns": "http://wadl.dev.java.net/2009/02", "xmlns:xs": "http://www.w3.org/2001/XMLSchema"}
_UNIQUE = frozenset({"application", "request"})
"""Elements of which there is at most one in their parent; all others are arrays in JSON (Annex G.2)."""
_TEMPLATE = re.compile(r"\{([A-Za-z0-9_]+)(?::[a-z]+)?\}")
_NO_CONTENT = 204


class Parameter(msgspec.Struct, frozen=True):
    """One query parameter or header field. `kind` is an XML Schema type such as "xs:nonNegativeInteger"."""

    name: str
    style: Literal["query", "header"] = "query"
    required: bool = False
    default: str = ""
    kind: str = ""


class Transaction(msgspec.Struct, frozen=True, kw_only=True):
    """What one method does at one resource. Media types are given default first."""

    id: str
    """Unique in the whole description, in the way of "searchForStudies"."""
    title: str
    """A name for people, as Table H-1 has it: "Search for Studies"."""
    parameters: Sequence[Parameter] = ()
    """All but Accept, Content-Type and what stands in braces in the path: those follow from the rest."""
    consumes: Sequence[str] = ()
    """Media types of the request's payload; none when it has no payload."""
    produces: Sequence[str] = ()
    """Media types of a success's payload, which Accept chooses from."""
    statuses: Sequence[int] = (200,)
    """Every status that is answered on purpose."""


class Operation(msgspec.Struct, frozen=True):
    """A transaction and where it is: path relative to the base URI, with braces, beginning with a slash."""

    path: str
    method: str
    transaction: Transaction


SEARCH_PARAMETERS: Sequence[Parameter] = (
    Parameter("fuzzymatching", default="false", kind="xs:boolean"),
    Parameter("emptyvaluematching", default="false", kind="xs:boolean"),
    Parameter("multiplevaluematching", default="false", kind="xs:boolean"),
    Parameter("limit", kind="xs:nonNegativeInteger"),
    Parameter("offset", default="0", kind="xs:nonNegativeInteger"),
)
"""Table 8.3.4-1 without includefield, which only a search has."""


def attribute_parameters(paths: Iterable[AttributePath]) -> list[Parameter]:
    """Give the query parameters for matching attributes: each by keyword and by tag."""
    names: dict[str, None] = {}
    for path in paths:
        names[path_name(path)] = None
        names[".".join(f"{tag:08X}" for tag in path)] = None
    return [Parameter(name) for name in names]


def encode_wadl(base_url: str, operations: Sequence[Operation]) -> bytes:
    """Write the description as WADL. `base_url` is the base URI, absolute."""
    application = _application(base_url, operations)
    ElementTree.indent(application)
    encoded: bytes = ElementTree.tostring(application, encoding="utf-8", xml_declaration=True)
    return encoded


def encode_wadl_json(base_url: str, operations: Sequence[Operation]) -> bytes:
    """Write the same description as JSON (Annex G)."""
    return msgspec.json.encode({"application": _as_json(_application(base_url, operations))})


def _application(base_url: str, operations: Sequence[Operation]) -> ElementTree.Element:
    application = ElementTree.Element("application", _NAMESPACES)
    base = ElementTree.SubElement(application, "resources", {"base": base_url})
    places: dict[tuple[str, ...], ElementTree.Element] = {}
    for operation in operations:
        segments = tuple(_TEMPLATE.sub(r"{\1}", operation.path).strip("/").split("/"))
        place = _place(base, places, segments)
        place.append(_method(operation.method, operation.transaction))
    return application


def _place(
    base: ElementTree.Element, places: dict[tuple[str, ...], ElementTree.Element], segments: tuple[str, ...]
) -> ElementTree.Element:
    """Give the resource element of a path, with those above it made where they are missing."""
    if segments not in places:
        parent = _place(base, places, segments[:-1]) if len(segments) > 1 else base
        place = places[segments] = ElementTree.SubElement(parent, "resource", {"path": segments[-1] or "/"})
        for name in _TEMPLATE.findall(segments[-1]):
            ElementTree.SubElement(place, "param", {"name": name, "style": "template", "required": "true"})
    return places[segments]


def _method(name: str, transaction: Transaction) -> ElementTree.Element:
    method = ElementTree.Element("method", {"id": transaction.id, "name": name})
    ElementTree.SubElement(method, "doc", {"xml:lang": "en", "title": transaction.title})
    request = ElementTree.SubElement(method, "request")
    for parameter in _headers(transaction):
        ElementTree.SubElement(request, "param", _param(parameter))
    for parameter in transaction.parameters:
        ElementTree.SubElement(request, "param", _param(parameter))
    for media_type in transaction.consumes:
        ElementTree.SubElement(request, "representation", {"mediaType": media_type})
    refusals = [status for status in transaction.statuses if status >= 400]
    with_payload = [status for status in transaction.statuses if status < 400 and status != _NO_CONTENT]
    _response(method, with_payload, transaction.produces)
    _response(method, [status for status in transaction.statuses if status == _NO_CONTENT], ())
    _response(method, refusals, (PROBLEM_JSON,))
    return method


def _response(method: ElementTree.Element, statuses: Sequence[int], media_types: Iterable[str]) -> None:
    if statuses:
        response = ElementTree.SubElement(method, "response", {"status": " ".join(map(str, statuses))})
        for media_type in media_types:
            ElementTree.SubElement(response, "representation", {"mediaType": media_type})


def _headers(transaction: Transaction) -> list[Parameter]:
    headers = []
    if transaction.produces:
        headers.append(Parameter("Accept", "header", required=True, default=transaction.produces[0]))
    if transaction.consumes:
        headers.append(Parameter("Content-Type", "header", required=True, default=transaction.consumes[0]))
    return headers


def _param(parameter: Parameter) -> dict[str, str]:
    attributes = {"name": parameter.name, "style": parameter.style}
    if parameter.required:
        attributes["required"] = "true"
    if parameter.default:
        attributes["default"] = parameter.default
    if parameter.kind:
        attributes["type"] = parameter.kind
    return attributes


def _as_json(element: ElementTree.Element) -> dict[str, Any]:
    members: dict[str, Any] = {f"@{name}": value for name, value in element.items()}
    for child in element:
        if child.tag in _UNIQUE:
            members[child.tag] = _as_json(child)
        else:
            members.setdefault(child.tag, []).append(_as_json(child))
    return members
