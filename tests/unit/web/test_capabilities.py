"""OPTIONS on the base URI tells of the routes that are there, and of no other (PS3.18 §8.9, O-13)."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast
from xml.etree import ElementTree

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from web_harness import Answer, ask

from router.config.model import Config
from router.dicomweb.capabilities import SEARCH_PARAMETERS, Parameter, Transaction, attribute_parameters
from router.search import Index
from router.sending.requests import SendRequests
from router.store.files import Store
from router.web.capabilities import DocumentedRoute, documented, with_capabilities
from router.web.retrieve import retrieve_routes
from router.web.search import search_routes
from router.web.send import send_routes

WADL_NAME = "{http://wadl.dev.java.net/2009/02}"
SEND_PATHS = [
    "/studies/send-requests/{transaction}",
    "/studies/{study}/series/send-requests/{transaction}",
    "/studies/{study}/instances/send-requests/{transaction}",
    "/studies/{study}/series/{series}/instances/send-requests/{transaction}",
    "/series/send-requests/{transaction}",
    "/instances/send-requests/{transaction}",
    "/color-palettes/send-requests/{transaction}",
]


async def echo(request: Request) -> Response:
    return Response(f"{request.method} {sorted(request.path_params)}", media_type="text/plain")


def routes_of(base: str) -> list[DocumentedRoute]:
    search = Transaction(
        id="searchForStudies",
        title="Search for Studies",
        parameters=[*attribute_parameters([(0x00100020,), (0x00400275, 0x00400009)]), *SEARCH_PARAMETERS],
        produces=["application/dicom+json", 'multipart/related; type="application/dicom+xml"'],
        statuses=[200, 204, 400, 406, 413],
    )
    store = Transaction(
        id="storeInstances",
        title="Store Instances",
        consumes=['multipart/related; type="application/dicom"'],
        produces=["application/dicom+json"],
        statuses=[200, 202, 400, 409, 415, 503],
    )
    made = [
        documented("GET", f"{base}/studies", echo, search),
        documented("POST", f"{base}/studies", echo, store),
        documented(
            "GET", f"{base}/studies/{{study}}/bulk/{{pointer:path}}", echo, Transaction(id="bulk", title="Bulk")
        ),
    ]
    for number, path in enumerate(SEND_PATHS):
        send = Transaction(
            id=f"send{number}",
            title="Send",
            parameters=[Parameter("destination", required=True, kind="xs:anyURI"), Parameter("Prefer", "header")],
            produces=["application/dicom+json"],
            statuses=[200, 202, 400, 403],
        )
        made.append(documented("POST", base + path, echo, send))
        check = Transaction(id=f"check{number}", title="Check Send Result", produces=["application/dicom+json"])
        made.append(documented("GET", base + path, echo, check))
    return made


def app_of(base: str = "/dicom-web") -> Starlette:
    app = Starlette(routes=with_capabilities(base, routes_of(base)))
    app.router.redirect_slashes = False
    return app


async def describe(accept: str | None = "*/*", *, base: str = "/dicom-web", path: str | None = None) -> Answer:
    headers = [("host", "pacs:8080")] + ([("accept", accept)] if accept is not None else [])
    return await ask(app_of(base), base + "/" if path is None else path, method="OPTIONS", headers=headers)


def advertised(wadl: bytes) -> Iterator[tuple[str, str]]:
    root = ElementTree.fromstring(wadl)
    assert root.tag == WADL_NAME + "application"
    [resources] = root.findall(WADL_NAME + "resources")

    def below(element: ElementTree.Element, path: str) -> Iterator[tuple[str, str]]:
        for method in element.findall(WADL_NAME + "method"):
            yield path or "/", method.attrib["name"]
        for resource in element.findall(WADL_NAME + "resource"):
            names = re.findall(r"\{(\w+)\}", resource.attrib["path"])
            templates = [p for p in resource.findall(WADL_NAME + "param") if p.attrib["style"] == "template"]
            assert [p.attrib["name"] for p in templates] == names
            yield from below(resource, f"{path}/{resource.attrib['path']}".replace("//", "/"))

    return below(resources, "")


@pytest.mark.parametrize("base", ["/dicom-web", ""])
async def test_req_004_req_096_each_advertised_method_is_routed_and_each_route_advertised(base: str) -> None:
    answer = await describe("application/vnd.sun.wadl+xml", base=base)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/vnd.sun.wadl+xml")
    told = list(advertised(answer.body))
    assert len(told) == len(set(told))
    routed = {(route.path.removeprefix(base).replace(":path", ""), route.method) for route in routes_of(base)}
    assert set(told) == routed | {("/", "OPTIONS")}
    app = app_of(base)
    for path, method in told:
        if method != "OPTIONS":
            got = await ask(app, base + re.sub(r"\{\w+\}", "1.2.3", path), method=method)
            assert (got.status, got.text) == (200, f"{method} {sorted(re.findall(r'[{](.*?)[}]', path))}")


async def test_req_005_req_096_the_real_resources_are_advertised_with_the_templates_of_o13() -> None:
    index = cast("Index", None)
    requests = cast("SendRequests", None)
    routes = [
        *search_routes("/base", index),
        *retrieve_routes("/base", index, cast("Store", None)),
        *send_routes("/base", index, requests, dict, Config(file=Path("router.toml"))),
    ]
    answer = await ask(Starlette(routes=with_capabilities("/base", routes)), "/base/", method="OPTIONS")
    told = [(re.sub(r"\{\w+\}", "{}", path), method) for path, method in advertised(answer.body)]
    assert len(told) == len(set(told)) == len(routes) + 1
    resources = ["/studies", "/studies/{}/series", "/studies/{}/instances", "/series"]
    resources += ["/studies/{}/series/{}/instances", "/instances"]
    for resource in resources:
        send = resource + "/send-requests/{}"
        assert {(resource, "GET"), (send, "POST"), (send, "GET")} <= set(told)
    assert ("/studies/{}/send-requests/{}", "POST") not in told
    assert not [path for path, _ in told if "rendered" in path or "thumbnail" in path]
    ids = [method.attrib["id"] for method in ElementTree.fromstring(answer.body).iter(WADL_NAME + "method")]
    assert len(ids) == len(set(ids))


async def test_the_base_is_the_uri_that_the_client_used() -> None:
    root = ElementTree.fromstring((await describe()).body)
    assert root.find(WADL_NAME + "resources").attrib == {"base": "http://pacs:8080/dicom-web"}  # type: ignore[union-attr]


async def test_a_method_tells_parameters_media_types_and_statuses() -> None:
    root = ElementTree.fromstring((await describe()).body)
    methods = {method.attrib["id"]: method for method in root.iter(WADL_NAME + "method")}
    request = methods["searchForStudies"].find(WADL_NAME + "request")
    assert request is not None
    names = [param.attrib["name"] for param in request]
    assert names[:5] == [
        "Accept",
        "PatientID",
        "00100020",
        "RequestAttributesSequence.ScheduledProcedureStepID",
        "00400275.00400009",
    ]
    assert {"limit", "offset", "fuzzymatching"} < set(names)
    responses = methods["searchForStudies"].findall(WADL_NAME + "response")
    assert [response.attrib["status"] for response in responses] == ["200", "204", "400 406 413"]
    assert [[r.attrib["mediaType"] for r in response] for response in responses] == [
        ["application/dicom+json", 'multipart/related; type="application/dicom+xml"'],
        [],
        ["application/problem+json"],
    ]
    store = methods["storeInstances"].find(WADL_NAME + "request")
    assert store is not None
    assert [child.attrib.get("name", child.attrib.get("mediaType")) for child in store] == [
        "Accept",
        "Content-Type",
        'multipart/related; type="application/dicom"',
    ]


async def test_json_says_the_same_in_the_shape_of_annex_g() -> None:
    answer = await describe("application/json")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    application = json.loads(answer.body)["application"]
    [resources] = application["resources"]
    assert resources["@base"] == "http://pacs:8080/dicom-web"

    def below(node: dict[str, Any], path: str) -> Iterator[tuple[str, str]]:
        for method in node.get("method", []):
            assert isinstance(method["request"], dict)
            assert method["doc"][0]["@xml:lang"] == "en"
            yield path or "/", method["@name"]
        for resource in node.get("resource", []):
            yield from below(resource, f"{path}/{resource['@path']}".replace("//", "/"))

    assert list(below(resources, "")) == list(advertised((await describe()).body))


@pytest.mark.parametrize(("accept", "status"), [(None, 406), ("text/html", 406), ("*/*;q=0", 406)])
async def test_accept_is_required(accept: str | None, status: int) -> None:
    answer = await describe(accept)
    assert answer.status == status
    assert answer.json["allowed"] == "application/vnd.sun.wadl+xml, application/json"


@pytest.mark.parametrize("path", ["/dicom-web", "/dicom-web/"])
async def test_the_base_uri_may_end_in_a_slash_or_not(path: str) -> None:
    assert (await describe(path=path)).status == 200


@pytest.mark.parametrize("path", ["/dicom-web/studies", "/dicom-web/studies/send-requests/1.2"])
async def test_b56_b70_pre_flight_of_a_resource_is_405_and_never_has_cors_fields(path: str) -> None:
    answer = await ask(
        app_of(), path, method="OPTIONS", headers=[("origin", "https://a"), ("access-control-request-method", "POST")]
    )
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD, POST")
    on_base = await ask(app_of(), "/dicom-web/", method="OPTIONS", headers=[("origin", "https://a"), ("accept", "*/*")])
    for got in (answer, on_base):
        assert not [name for name in got.headers if name.startswith("access-control")]


@pytest.mark.parametrize("method", ["DELETE", "PUT", "PATCH", "TRACE", "get", "BREW"])
async def test_b56_b88_other_methods_are_405_with_all_that_are_possible(method: str) -> None:
    answer = await ask(app_of(), "/dicom-web/studies/send-requests/1.2.3", method=method)
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD, POST")


@pytest.mark.parametrize(
    "path",
    ["/studies/send-requests", "/studies/1.2/send-requests/1.3", "/frames/1/send-requests/1.3", "/send-requests/1"],
)
async def test_req_001_req_003_what_is_not_in_the_tables_is_404(path: str) -> None:
    for method in ("GET", "POST"):
        assert (await ask(app_of(), "/dicom-web" + path, method=method)).status == 404


async def test_head_is_get_without_its_body() -> None:
    answer = await ask(app_of(), "/dicom-web/studies", method="HEAD")
    assert (answer.status, answer.body, answer.headers["content-type"]) == (200, b"", "text/plain; charset=utf-8")
    got = await ask(app_of(), "/dicom-web/studies", method="GET")
    assert int(answer.headers["content-length"]) == len(got.body) + len("HEAD") - len("GET")


async def test_head_of_a_stream_reads_nothing_of_it() -> None:
    begun = []

    async def endpoint(_: Request) -> Response:
        async def instances() -> AsyncIterator[bytes]:
            begun.append(True)
            yield b"instance"

        return StreamingResponse(instances(), media_type="application/dicom")

    route = documented("GET", "/base/studies", endpoint, Transaction(id="x", title="X"))
    app = Starlette(routes=with_capabilities("/base", [route]))
    answer = await ask(app, "/base/studies", method="HEAD")
    assert (answer.status, answer.body, answer.headers["content-type"]) == (200, b"", "application/dicom")
    assert begun == []
    assert (await ask(app, "/base/studies")).body == b"instance"


def test_two_routes_for_one_method_and_path_are_a_mistake() -> None:
    one = Transaction(id="x", title="X")
    with pytest.raises(ValueError, match="two routes for GET /b/studies"):
        with_capabilities(
            "/b", [documented("GET", "/b/studies", echo, one), documented("GET", "/b/studies", echo, one)]
        )
    with pytest.raises(ValueError, match="written in two ways"):
        with_capabilities(
            "/b",
            [documented("GET", "/b/studies/{study}", echo, one), documented("POST", "/b/studies/{uid}", echo, one)],
        )
