"""Whether each destination and upstream is there and wants us: C-ECHO over DIMSE; OPTIONS and a question over the web.

All at once, each with ten seconds at most. Sends no instance.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from time import monotonic
from typing import Final, NamedTuple, TypeVar

import anyio
import msgspec

from router.config.model import (
    Config,
    Destination,
    DimseUpstream,
    SendRsDestination,
    StowDestination,
    StowReach,
    WebUpstream,
)
from router.delivery.proxy_upstreams import send_client
from router.delivery.send_rs_courier import SendRsCourier
from router.delivery.verification import verify
from router.delivery.web_headers import request_headers
from router.dicom.status import http_status
from router.dicom.uids import new_uid
from router.dicomweb.media_types import DICOM_JSON
from router.dicomweb.send_answer import Kind
from router.dicomweb.send_question import INSTANCES, SendQuestion
from router.errors import DeliveryError, Misconfigured, Transient
from router.net.http import HttpClient
from router.net.nodes import DimseNode, node_of

LIMIT_S: Final = 10.0
AT_ONCE: Final = 32
_SAYS_NO: Final = (401, 403, 407)
_NOT_THERE: Final = 404
_NOT_IMPLEMENTED: Final = 501

T = TypeVar("T", SendRsDestination, WebUpstream)
Web = StowDestination | StowReach | SendRsDestination | WebUpstream


class Reached(NamedTuple):
    """One that was asked: what it answered, or why not (`problem`) and what to do about it (`advice`)."""

    name: str
    where: str
    answer: str = ""
    problem: str = ""
    advice: str = ""


class _Question(NamedTuple):
    name: str
    where: str
    ask: Callable[[], Awaitable[str]]
    advise: Callable[[str], str]


def ask_all(config: Config) -> Sequence[Reached]:
    """Ask every destination, by each of its mechanisms, and every upstream; in the order of the configuration."""
    questions = [*_questions(config)]
    answers: list[Reached | None] = [None] * len(questions)

    async def ask(at: int, limiter: anyio.CapacityLimiter) -> None:
        async with limiter:
            answers[at] = await _ask(questions[at])

    async def run() -> None:
        limiter = anyio.CapacityLimiter(AT_ONCE)
        async with anyio.create_task_group() as tasks:
            for at in range(len(questions)):
                tasks.start_soon(ask, at, limiter)

    if questions:
        anyio.run(run)
    return [answer for answer in answers if answer is not None]


async def _ask(question: _Question) -> Reached:
    problem = f"no answer within {LIMIT_S:g} s"
    try:
        with anyio.fail_after(LIMIT_S):
            return Reached(question.name, question.where, answer=await question.ask())
    except DeliveryError as error:
        problem = error.problem
    except TimeoutError:
        pass
    return Reached(question.name, question.where, problem=problem, advice=question.advise(problem))


def _questions(config: Config) -> Iterator[_Question]:
    title = config.dicom.ae_title
    for name, destination in config.destinations.items():
        yield from _ways(name, destination, title)
    for name, proxy in config.proxies.items():
        match proxy.upstream:
            case DimseUpstream():
                yield _dimse(f"{name} (proxy)", node_of(proxy.upstream, title))
            case WebUpstream():
                yield _web(f"{name} (proxy)", proxy.upstream, partial(_check_upstream, proxy.upstream))


def _ways(name: str, destination: Destination, our_title: str) -> Iterator[_Question]:
    if isinstance(destination, SendRsDestination):
        yield _web(name, destination, SendRsCourier(_short(destination)).probe)
        return
    for mechanism in destination.deliver:
        called = name if len(destination.deliver) == 1 else f"{name} ({mechanism})"
        if mechanism == "c-store":
            yield _dimse(called, node_of(destination, our_title))
        else:
            reach = destination if isinstance(destination, StowDestination) else destination.stow_rs
            assert reach is not None, "the configuration was checked"
            yield _web(called, reach, partial(_search, reach))


def _dimse(name: str, node: DimseNode | None) -> _Question:
    assert node is not None, "the configuration was checked"
    node = msgspec.structs.replace(node, connect_s=min(node.connect_s, LIMIT_S), answer_s=min(node.answer_s, LIMIT_S))
    host = f"[{node.host}]" if ":" in node.host else node.host
    return _Question(name, f"{node.ae_title} at {host}:{node.port}", partial(_echo, node), partial(_advise_dimse, node))


def _web(name: str, peer: Web, probe: Callable[[], Awaitable[None]]) -> _Question:
    async def ask() -> str:
        began = monotonic()
        await _options(peer)
        await probe()
        return f"answered OPTIONS and a question in {_show(began)}"

    return _Question(name, peer.url, ask, _advise_web)


async def _echo(node: DimseNode) -> str:
    began = monotonic()
    echo = await verify(node)
    if echo.answered_s is None:
        return f"takes our association in {_show(began)}, but not C-ECHO"
    return f"answered C-ECHO in {_show(began)}"


async def _options(peer: Web) -> None:
    """Ask what may be done there. A server need not know OPTIONS; one that wants to know who we are, says so."""
    status = await _request(peer, "OPTIONS", "/studies", {})
    if status in _SAYS_NO:
        raise Misconfigured(_words(status))


async def _search(peer: StowReach | StowDestination) -> None:
    """Search for one study. Any answer will do but one that says that we are wrong here, or they in trouble."""
    status = await _request(peer, "GET", "/studies?limit=1", {"Accept": DICOM_JSON})
    if status in _SAYS_NO or status == _NOT_THERE or 300 <= status <= 399:
        raise Misconfigured(_words(status))
    if status >= 500 and status != _NOT_IMPLEMENTED:
        raise Transient(_words(status))


async def _check_upstream(upstream: WebUpstream) -> None:
    """Ask about a SEND-RS request that does not exist."""
    client = send_client(_short(upstream))
    try:
        answer = await client.check(SendQuestion(resource=INSTANCES, destination=upstream.url), new_uid())
    finally:
        await client.aclose()
    if answer.kind is Kind.NO:
        raise Misconfigured(answer.words)
    if answer.kind is Kind.BUSY:
        raise Transient(answer.words)


async def _request(peer: Web, method: str, path: str, headers: dict[str, str]) -> int:
    client = HttpClient(
        connect_s=min(peer.connect_s, LIMIT_S), answer_s=min(peer.answer_s, LIMIT_S), ca_file=peer.ca_file
    )
    try:
        sent = await request_headers(headers, configured=peer.headers, token_file=peer.bearer_token_file)
        answer = await client.request(method, f"{peer.url}{path}", headers=sent)
    finally:
        await client.aclose()
    return answer.status


def _short(peer: T) -> T:
    return msgspec.structs.replace(peer, connect_s=min(peer.connect_s, LIMIT_S), answer_s=min(peer.answer_s, LIMIT_S))


def _words(status: int) -> str:
    words = http_status(status).words
    return words if words.startswith("HTTP") else f"HTTP {status}: {words}"


def _show(began: float) -> str:
    return f"{(monotonic() - began) * 1000:.0f} ms"


def _advise_dimse(node: DimseNode, problem: str) -> str:
    """What to do, by the words in which the layers below say what happened."""
    if "calling AE title not recognised" in problem:
        return (
            f'register the AE title "{node.calling_aet}" and the address of this machine there, or set calling_aet to '
            "a title that it knows"
        )
    if "called AE title not recognised" in problem:
        return f'it does not go by "{node.ae_title}": set ae_title to what its own configuration says'
    if "not known" in problem or "No address" in problem:
        return f'the name "{node.host}" is not found: mend host, or the name server'
    if "no connection" in problem:
        return f"is it running, and is {node.port} its DICOM port? A firewall between may say no, too"
    if "no answer" in problem:
        return f"something takes the connection and says nothing: is {node.port} its DICOM port, without TLS?"
    return f'its log says why; perhaps "{node.calling_aet}" is not registered there'


def _advise_web(problem: str) -> str:
    for words, advice in _WEB_ADVICE:
        if words in problem:
            return advice
    return "its log says why"


_WEB_ADVICE: Final = (
    ("bearer_token_file", "write the token into that file, readable by the router's user alone"),
    ("HTTP 401", "it wants to know who we are: set bearer_token_file, or headers"),
    ("HTTP 407", "a proxy between wants a log-in"),
    ("HTTP 403", "it does not let us in: allow this machine there, or use another token"),
    ("HTTP 404", "url must be the base of its services: what stands before /studies"),
    ("HTTP 3", "it moved: set url to where it is now"),
    ("certificate", "set ca_file to the certificate authority that it uses, or have its certificate renewed"),
    ("ca_file", "set ca_file to a file with certificates (PEM)"),
    ("name not found", "mend the host in url, or the name server"),
    ("SSL", "does it speak TLS at this port? Otherwise url begins with http://"),
    ("refused", "is it running, and is that its port?"),
    ("no connection in time", "is it running? A firewall between may swallow what we send"),
    ("no answer", "it takes the connection, but does not answer: its log may say why"),
    ("HTTP 5", "it is in trouble itself: its log says why"),
)
"""In this order: the first whose words occur."""
