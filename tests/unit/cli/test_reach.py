"""`sendrs check` asks the destinations: what each answer looks like, and what a person is told to do."""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio.to_thread
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "delivery"))

from scripted_origin import CERTIFICATE, Asked, Origin, answer, serving
from scripted_scp import ScriptedScp

from router.cli import reach, run
from router.cli.exits import ExitCode
from router.cli.reach import Reached, ask_all
from router.config.load import load_config
from router.config.model import Config
from router.dicom.uids import VERIFICATION

HEAD = """
[dicom]
listen = "127.0.0.1:0"
[http]
listen = "127.0.0.1:0"
[state]
path = "state"
unsafe_filesystem = true
min_free_bytes = 0
"""


def make_config(folder: Path, text: str) -> Config:
    (folder / "rules").mkdir(exist_ok=True)
    (folder / "router.toml").write_text(HEAD + text)
    return load_config(folder / "router.toml")


def dimse(port: int, name: str = "archive") -> str:
    return f'[destinations.{name}]\nkind = "dimse"\nae_title = "ARCHIVE"\nhost = "127.0.0.1"\nport = {port}\n'


def web(url: str, more: str = "") -> str:
    return f'[destinations.cloud]\nkind = "stow-rs"\nurl = "{url}"\n{more}'


async def ask(config: Config) -> list[Reached]:
    return list(await anyio.to_thread.run_sync(ask_all, config))


@asynccontextmanager
async def scripted(status: Callable[[Asked], int], **how: bool) -> AsyncIterator[Origin]:
    async with serving(Origin(script=lambda asked: answer(status(asked)), **how)) as origin:
        yield origin


async def test_one_that_answers_c_echo_is_there(tmp_path: Path) -> None:
    async with ScriptedScp().listening() as scp:
        (one,) = await ask(make_config(tmp_path, dimse(scp.port)))
    assert (one.name, one.where, one.problem) == ("archive", f"ARCHIVE at 127.0.0.1:{scp.port}", "")
    assert one.answer.startswith("answered C-ECHO in ")
    assert scp.echoes == 1


async def test_one_without_verification_is_there_all_the_same(tmp_path: Path) -> None:
    async with ScriptedScp(accepts_sop_class=lambda uid: uid != VERIFICATION).listening() as scp:
        (one,) = await ask(make_config(tmp_path, dimse(scp.port)))
    assert not one.problem
    assert one.answer.endswith("but not C-ECHO")


@pytest.mark.parametrize(
    ("rejection", "problem", "advice"),
    [
        (
            (1, 1, 3),
            "calling AE title not recognised",
            'register the AE title "SENDRS" and the address of this machine',
        ),
        ((1, 1, 7), "called AE title not recognised", 'it does not go by "ARCHIVE": set ae_title'),
        ((1, 1, 1), "no reason given", "its log says why"),
    ],
)
async def test_why_an_association_is_rejected_and_what_to_do(
    tmp_path: Path, rejection: tuple[int, int, int], problem: str, advice: str
) -> None:
    async with ScriptedScp(rejection=rejection).listening() as scp:
        (one,) = await ask(make_config(tmp_path, dimse(scp.port)))
    assert problem in one.problem
    assert one.advice.startswith(advice)


async def test_nobody_listens(tmp_path: Path) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        config = make_config(tmp_path, dimse(port) + web(f"http://127.0.0.1:{port}"))
        archive, cloud = await ask(config)
    assert archive.problem == f"no connection to 127.0.0.1:{port}: Connection refused"
    assert archive.advice.startswith(f"is it running, and is {port} its DICOM port?")
    assert cloud.problem == f"127.0.0.1:{port}: Connection refused"
    assert cloud.advice.startswith("is it running")


async def test_all_are_asked_at_once_and_none_for_longer_than_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reach, "LIMIT_S", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(50)
        port = silent.getsockname()[1]
        config = make_config(
            tmp_path, "".join(dimse(port, f"a{n}") for n in range(10)) + web(f"http://127.0.0.1:{port}")
        )
        began = time.monotonic()
        answers = await ask(config)
    assert time.monotonic() - began < 3
    assert [one.name for one in answers] == [*(f"a{n}" for n in range(10)), "cloud"]
    assert all("no answer" in one.problem and one.advice for one in answers)


async def test_a_web_destination_is_asked_by_options_and_a_search_with_our_headers(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret\n")
    token.chmod(0o600)
    async with scripted(lambda asked: 405 if asked.method == "OPTIONS" else 204) as origin:
        (one,) = await ask(make_config(tmp_path, web(origin.url, 'bearer_token_file = "token"')))
    assert one.answer.startswith("answered OPTIONS and a question in ")
    assert [(asked.method, asked.target) for asked in origin.requests] == [
        ("OPTIONS", "/dicom-web/studies"),
        ("GET", "/dicom-web/studies?limit=1"),
    ]
    assert {asked.headers["authorization"] for asked in origin.requests} == {"Bearer secret"}


@pytest.mark.parametrize(
    ("status", "problem", "advice"),
    [
        (401, "HTTP 401: unauthorized", "it wants to know who we are: set bearer_token_file"),
        (403, "HTTP 403: forbidden", "it does not let us in"),
        (404, "HTTP 404: not found", "url must be the base of its services"),
        (301, "HTTP 301: redirects are not followed", "it moved"),
        (503, "HTTP 503", "it is in trouble itself"),
    ],
)
async def test_what_a_web_server_says_and_what_to_do(tmp_path: Path, status: int, problem: str, advice: str) -> None:
    async with scripted(lambda asked: status) as origin:
        (one,) = await ask(make_config(tmp_path, web(origin.url)))
    assert one.problem.startswith(problem)
    assert one.advice.startswith(advice)


async def test_a_certificate_that_nobody_vouches_for(tmp_path: Path) -> None:
    async with scripted(lambda asked: 200, tls=True) as origin:
        (one,) = await ask(make_config(tmp_path, web(origin.url)))
        (trusted,) = await ask(make_config(tmp_path, web(origin.url, f'ca_file = "{CERTIFICATE}"')))
    assert "certificate is not trusted" in one.problem
    assert one.advice.startswith("set ca_file")
    assert not trusted.problem


async def test_tls_where_none_is_spoken(tmp_path: Path) -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(plain, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        (one,) = await ask(make_config(tmp_path, web(f"https://127.0.0.1:{port}")))
    assert one.problem
    assert one.advice.startswith("does it speak TLS at this port?")


async def test_both_ways_of_a_destination_and_upstreams_have_lines_of_their_own(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        scp = await stack.enter_async_context(ScriptedScp().listening())
        origin = await stack.enter_async_context(
            scripted(lambda asked: 404 if "send-requests" in asked.target else 200)
        )
        config = make_config(
            tmp_path,
            dimse(scp.port, "vna")
            + f'deliver = ["c-store", "stow-rs"]\n[destinations.vna.stow_rs]\nurl = "{origin.url}"\n'
            + f'[destinations.regional]\nkind = "send-rs"\nurl = "{origin.url}"\ntarget = "https://far.example/dicom-web"\n'
            + f'[proxies.pacs]\nbase_path = "/pacs"\n[proxies.pacs.upstream]\nkind = "dimse"\nae_title = "PACS"\n'
            f'host = "127.0.0.1"\nport = {scp.port}\n'
            + f'[proxies.far]\nae_title = "FAR"\n[proxies.far.upstream]\nkind = "dicomweb"\nurl = "{origin.url}"\n',
        )
        answers = await ask(config)
    assert [(one.name, one.problem) for one in answers] == [
        ("vna (c-store)", ""),
        ("vna (stow-rs)", ""),
        ("regional", ""),
        ("pacs (proxy)", ""),
        ("far (proxy)", ""),
    ]


async def test_the_command_ends_with_1_when_one_is_away_and_with_0_offline(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with ScriptedScp(rejection=(1, 1, 3)).listening() as refusing, ScriptedScp().listening() as well:
        config = make_config(tmp_path, dimse(well.port) + dimse(refusing.port, "other"))
        code = await anyio.to_thread.run_sync(run, ["check", "--config", str(config.file)])
        said = capsys.readouterr().out.splitlines()
        offline = await anyio.to_thread.run_sync(run, ["check", "--offline", "--config", str(config.file)])
    assert code == ExitCode.FOUND_PROBLEMS
    assert offline == ExitCode.OK
    assert f"ARCHIVE at 127.0.0.1:{well.port} answered C-ECHO in " in said[-3]
    assert said[-2].startswith("! other         ARCHIVE at 127.0.0.1:")
    assert said[-1].startswith('    register the AE title "SENDRS"')
