"""The bad-input catalogue against the daemon as a process: its log, memory and disk, and how it refuses to start."""

from __future__ import annotations

import json
import os
import re
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from peers import Daemon, free_port, wait_until

from router.config.state_folder import filesystem_of

CT, EXPLICIT = b"1.2.840.10008.5.1.4.1.1.2", b"1.2.840.10008.1.2.1"
HOSTILE = "\x1b]0;owned\x07\r\n2026-01-01T00:00:00Z error forged line=yes ${jndi:ldap://x} \u202e"
ANSWER_S = 10.0
SUCCESS = struct.pack("<HHIH", 0, 0x0900, 2, 0)


def item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(value)) + value


def request(calling: bytes = b"CT1", called: bytes = b"SENDRS", more_user: bytes = b"") -> bytes:
    context = item(0x20, b"\1\0\0\0" + item(0x30, CT) + item(0x40, EXPLICIT))
    user = item(0x50, item(0x51, struct.pack(">I", 16384)) + item(0x52, b"1.2.3") + more_user)
    body = struct.pack(">HH16s16s32x", 1, 0, called.ljust(16), calling.ljust(16))
    body += item(0x10, b"1.2.840.10008.3.1.1.1") + context + user
    return struct.pack(">BxI", 1, len(body)) + body


def store(uid: bytes, data_set: bytes) -> bytes:
    def element(number: int, value: bytes) -> bytes:
        value += b"\0" * (len(value) % 2)
        return struct.pack("<HHI", 0, number, len(value)) + value

    command = element(2, CT) + element(0x100, b"\1\0") + element(0x110, b"\7\0") + element(0x700, b"\0\0")
    command += element(0x800, b"\0\0") + element(0x1000, uid)
    command = struct.pack("<HHII", 0, 0, 4, len(command)) + command
    pdvs = (struct.pack(">IBB", len(part) + 2, 1, control) + part for control, part in ((3, command), (2, data_set)))
    return b"".join(struct.pack(">BxI", 4, len(pdv)) + pdv for pdv in pdvs)


def data_set(uid: bytes, text: bytes = b"P1") -> bytes:
    def element(tag: int, vr: bytes, value: bytes) -> bytes:
        value += (b"\0" if vr == b"UI" else b" ") * (len(value) % 2)
        return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value

    values = (
        (0x00080016, b"UI", CT),
        (0x00080018, b"UI", uid),
        (0x00081030, b"LO", text),
        (0x00100010, b"PN", text),
        (0x0020000D, b"UI", b"1.2.3"),
        (0x0020000E, b"UI", b"1.2.3.4"),
    )
    return b"".join(element(*one) for one in values)


def caller(port: int) -> closing[socket.socket]:
    return closing(socket.create_connection(("127.0.0.1", port), timeout=ANSWER_S))


def heard(port: int, sent: bytes) -> bytes:
    """All that comes back for it until the router closes."""
    answer = b""
    with caller(port) as connection:
        try:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(65_536):
                answer += piece
        except TimeoutError:
            raise
        except OSError:  # refused, reset: closed is closed
            pass
    return answer


def pdu(connection: socket.socket) -> bytes:
    """The next whole PDU."""
    data = b""
    while len(data) < 6 or len(data) < 6 + int.from_bytes(data[2:6], "big"):
        piece = connection.recv(65_536)
        assert piece, "closed"
        data += piece
    return data


def answers(port: int, *messages: bytes, **asked: bytes) -> list[bytes]:
    """What each message hears inside an association, which must be accepted and released."""
    with caller(port) as connection:
        connection.sendall(request(**asked))
        assert pdu(connection)[:1] == b"\2"
        found = []
        for message in messages:
            connection.sendall(message)
            found.append(pdu(connection))
        connection.sendall(b"\5\0\0\0\0\4\0\0\0\0")
        assert pdu(connection)[:1] == b"\6"
    return found


def is_served(port: int) -> bool:
    """Whether a well-behaved caller gets an association."""
    return heard(port, request())[:1] == b"\2"


def lines_of(daemon: Daemon, event: str) -> list[str]:
    return [line for line in daemon.log().splitlines() if f" {event} " in line or f'"{event}"' in line]


def test_b5_b6_a_browser_and_a_tls_client_are_closed_and_named_in_the_log(tmp_path: Path) -> None:
    with Daemon(tmp_path) as daemon:
        assert heard(daemon.dicom_port, b"GET /dicom-web/studies HTTP/1.1\r\nHost: x\r\n\r\n") == b""
        assert heard(daemon.dicom_port, bytes.fromhex("16030100c8010000c40303") + bytes(194)) == b""
        assert is_served(daemon.dicom_port)
        ended = [line.partition("ended=")[2] for line in lines_of(daemon, "connection without association")]
        assert ended == [
            '"HTTP on a DICOM port"',
            '"TLS ClientHello on a plain DICOM port: switch TLS off at the peer"',
        ]


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_b12_b29_b38_nothing_hostile_reaches_the_log_raw(tmp_path: Path, log_format: str) -> None:
    raw = HOSTILE.encode("utf-8")
    peers = '[peers.ct]\nae_title = "CT1"\naddress = "127.0.0.1"\n'
    with Daemon(tmp_path, f'[log]\nformat = "{log_format}"\nlevel = "debug"\n{peers}') as daemon:
        port = daemon.dicom_port
        identity = struct.pack(">BBH", 2, 0, len(raw)) + raw + struct.pack(">H", 6) + b"s3cret"
        before = len(daemon.log().splitlines())
        assert heard(port, request(calling=raw[:16]))[:1] == b"\3"
        assert heard(port, request(called=raw[:16]))[:1] == b"\3"
        answers(port, more_user=item(0x58, identity))
        uids = (raw, raw[:20], b"1.2.\x1b[2J", b"1.2\r\n3")
        for answer in answers(port, *(store(uid, data_set(uid)) for uid in uids)):
            assert b"invalid UID" in answer
        kept, refused = answers(port, store(b"1.2.9.1", data_set(b"1.2.9.1", raw)), store(b"1.2.9.2", data_set(raw)))
        assert SUCCESS in kept
        assert b"UID mismatch" in refused
        daemon.stop()
        log = daemon.log_file.read_bytes()
    assert re.search(rb"[^\n -~]", log) is None, "the log holds something else than printable ASCII and line ends"
    added = log.decode().splitlines()[before:]
    assert len(added) > 10
    if log_format == "text":
        assert all(re.match(r"20\d\d-\d\d-\d\dT[\d:.]+Z (?:debug|info|warning|error) ", line) for line in added)
    else:
        assert all(json.loads(line)["event"] for line in added)
    assert not any(line.startswith("2026-01-01T00:00:00Z") for line in added)
    assert b"s3cret" not in log


def resident_kib(pid: int) -> int:
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])  # type: ignore[index]


def test_b46_two_thousand_connections_leave_memory_and_descriptors_as_they_were(tmp_path: Path) -> None:
    lives = (
        request() + b"\7\0\0\0\0\4\0\0\0\0",
        request(called=b"OTHER"),
        request(),
        b"\1\0\xff\xff\xff\xff",
    )

    def live(port: int, times: int) -> None:
        for n in range(times):
            with caller(port) as connection:
                connection.sendall(lives[n % len(lives)])
                if n % 3 == 0:
                    connection.recv(100)

    with Daemon(tmp_path, '[dicom]\nconnections_burst = 100000\n[log]\nlevel = "error"\n') as daemon:
        live(daemon.dicom_port, 500)
        descriptors = Path(f"/proc/{daemon.pid}/fd")
        assert is_served(daemon.dicom_port)
        time.sleep(0.5)
        before, open_before = resident_kib(daemon.pid), len(list(descriptors.iterdir()))
        live(daemon.dicom_port, 1500)
        assert is_served(daemon.dicom_port)
        wait_until(lambda: len(list(descriptors.iterdir())) <= open_before, 10.0, "descriptors to be closed")
        assert resident_kib(daemon.pid) - before < 4096
        assert daemon.log().count("\n") == 0
        assert daemon.stop() == 0


def test_b46_an_address_may_open_so_many_connections_and_is_then_served_again(tmp_path: Path) -> None:
    with Daemon(tmp_path, "[dicom]\nconnections_per_s = 20\nconnections_burst = 50\n") as daemon:
        began = time.monotonic()
        served = sum(heard(daemon.dicom_port, request())[:1] == b"\2" for _ in range(1000))
        spent = time.monotonic() - began
        assert 50 <= served <= 50 + 20 * spent + 1
        assert len(lines_of(daemon, "connections refused, too many a second")) <= 12
        wait_until(lambda: is_served(daemon.dicom_port), 5.0, "the bucket to fill again")


def test_nothing_that_a_peer_sends_becomes_a_path_of_the_daemon(tmp_path: Path) -> None:
    site = tmp_path / "a" / "b" / "site"
    hostile = [b"../../x", b"/tmp/sendrs-was-here", b"..", b"a\0b", b"$(touch x)", b"1.2/../../x"]
    with Daemon(site) as daemon:
        for number, text in enumerate(hostile):
            title = text if b"\0" not in text else b"CT1"
            uid = b"1.2.9.%d" % number
            first, second = answers(
                daemon.dicom_port, store(text, data_set(text)), store(uid, data_set(uid, text)), calling=title[:16]
            )
            assert SUCCESS not in first
            assert SUCCESS in second
            stow(daemon, text)
        daemon.stop()
    assert not Path("/tmp/sendrs-was-here").exists()
    names = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    state = "a/b/site/state"
    ours = re.compile(
        r"a|a/b|a/b/site|a/b/site/(?:rules|rules/10-test\.toml|router\.toml|sendrs\.log|state)"
        rf"|{state}/(?:\.lock|journal\.db(?:-wal|-shm)?|journal\.reserve|suspect|lost\+found|store)"
        rf"|{state}/store/[0-9]{{6}}(?:/[0-9a-f]{{32}}\.dcm)?"
    )
    assert {name for name in names if not ours.fullmatch(name)} == set()
    assert sum(name.endswith(".dcm") for name in names) == len(hostile)


def stow(daemon: Daemon, text: bytes) -> None:
    """Send a STOW request whose study in the URL, UIDs and file names are all hostile."""
    quoted = "".join(f"%{byte:02x}" for byte in text)
    meta = struct.pack("<HH2sH26s", 2, 0x10, b"UI", 20, EXPLICIT + b"\0")[:-6]
    part = bytes(128) + b"DICM" + struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(meta)) + meta + data_set(text)
    body = b"--xyz\r\nContent-Type: application/dicom\r\nContent-Disposition: attachment; filename=" + text + b"\r\n"
    body += b"Content-Location: " + text + b"\r\n\r\n" + part + b"\r\n--xyz--\r\n"
    head = (
        f"POST /dicom-web/studies/{quoted} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        'Content-Type: multipart/related; type="application/dicom"; boundary=xyz\r\nConnection: close\r\n\r\n'
    )
    assert heard(daemon.http_port, head.encode() + body).startswith(b"HTTP/1.1 4")


def refused(folder: Path, config: str, rules: str = "") -> Iterator[list[str]]:
    """What `check` and then `serve` write to stderr about a configuration that they must refuse with 78."""
    daemon = Daemon(folder, config, rules)
    for command in ("check", "serve"):
        done = daemon.cli(command, check=False)
        assert done.returncode == 78, f"{command}: {done.returncode}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        yield [line.replace(f"{folder}/", "") for line in done.stderr.splitlines()]
    assert not daemon.state_folder.exists()


def test_b91_to_b94_and_b100_a_bad_configuration_is_told_whole_and_refused_with_78(tmp_path: Path) -> None:
    config = (
        '[dicom]\nae_titel = "X"\nartim_s = "5 parsecs"\nmax_pdu_bytes = "10XB"\nae_title = "ABCDEFGHIJKLMNOPQ"\n'
        '[destinations.a]\nkind = "dimse"\nae_title = "A\\\\B"\nhost = "10.1.2.3"\nport = "104"\n'
        '[destinations.b]\nkind = "dimse"\nae_title = "B"\nhost = "10.1.2.4"\nport = 70000\n'
    )
    for said in refused(tmp_path, config):
        text = "\n".join(said)
        for words in (
            "[dicom] ae_titel: is not known here",
            "did you mean ae_title?",
            'has the unknown unit "parsecs"',
            'has the unknown unit "XB"',
            '"ABCDEFGHIJKLMNOPQ" has 17 characters',
            "holds a backslash",
            '"104" is not a whole number',
            "70000 is out of range",
        ):
            assert words in text


def test_b94_a_destination_that_stands_twice_is_refused_with_both_lines(tmp_path: Path) -> None:
    folder = tmp_path / "site"
    daemon = Daemon(folder)
    twice = '[destinations.a]\nkind = "dimse"\nae_title = "A"\nhost = "10.1.2.3"\n'
    daemon.config_file.write_text(twice + twice)
    done = daemon.cli("serve", check=False)
    assert done.returncode == 78
    assert done.stderr.startswith(f"{daemon.config_file}:5: [destinations.a]: stands on line 1 already")


def test_b95_to_b98_bad_rules_are_told_whole_and_refused_with_78(tmp_path: Path) -> None:
    config = '[destinations.archive]\nkind = "dimse"\nae_title = "A"\nhost = "10.1.2.3"\n'
    rules = (
        '[[rule]]\nname = "r"\nsend = ["archiv"]\nmatch = { PatinetID = "1" }\n'
        f'[[rule]]\nname = "s"\nsend = ["archive"]\nmatch = {{ StudyDescription = {{ regex = "{"x" * 1001}" }} }}\n'
    )
    for said in refused(tmp_path, config, rules):
        text = "\n".join(said)
        for words in ('did you mean "archive"?', 'did you mean "PatientID"?', "at most 1000"):
            assert words in text
    for said in refused(tmp_path / "code", config, "!!python/object:os.system ['touch x']\n"):
        assert "rules/10-test.toml:1" in said[0]
    assert not Path("x").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[dicom]\n".encode("utf-16"), "is UTF-16 text"),
        (b"[dicom]\n\0", ":2: holds a NUL byte"),
        (b"a = " + b"[" * 500_000, "nested too deeply"),
        (None, "is larger than 1 MiB"),
    ],
    ids=["utf-16", "nul", "deep", "100 MB"],
)
def test_b101_what_is_no_configuration_is_one_line_and_78(tmp_path: Path, content: bytes | None, words: str) -> None:
    file = tmp_path / "router.toml"
    if content is None:
        with file.open("wb") as stream:
            stream.truncate(100 * 1024**2)
    else:
        file.write_bytes(content)
    done = serve(file)
    assert done.returncode == 78
    assert words in done.stderr
    assert len(done.stderr.splitlines()) <= 2


def serve(file: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "router.cli", "serve", "--config", str(file)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_b102_a_link_to_a_device_and_a_secret_that_all_can_read_are_refused_with_78(tmp_path: Path) -> None:
    link = tmp_path / "router.toml"
    link.symlink_to("/dev/zero")
    done = serve(link)
    assert (done.returncode, done.stderr.strip()) == (78, f"{link}: is a device or pipe, not a file")
    token = tmp_path / "site" / "token"
    config = '[destinations.c]\nkind = "stow-rs"\nurl = "https://x.example/dw"\nbearer_token_file = "token"\n'
    token.parent.mkdir()
    token.write_text("abc")
    token.chmod(0o644)
    for said in refused(tmp_path / "site", config):
        assert "can be read by everybody on this machine" in said[0]
        assert said[1].strip() == "chmod o= token"


def test_b103_a_certificate_file_that_is_none_is_refused_with_78(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("hello")
    config = '[destinations.c]\nkind = "stow-rs"\nurl = "https://x.example/dw"\nca_file = "ca.pem"\n'
    for said in refused(tmp_path, config):
        assert said[0].endswith("[destinations.c] ca_file: ca.pem is not a file of PEM certificates")


def test_b104_plain_http_for_all_is_refused_with_78(tmp_path: Path) -> None:
    port = free_port()
    for said in refused(tmp_path / "no", f'[http]\nlisten = "0.0.0.0:{port}"\n'):
        assert "[http] listen: 0.0.0.0 can be reached from other machines, and HTTP is not encrypted" in said[0]
        assert "set insecure_http = true" in said[1]
    with Daemon(tmp_path / "yes", f'[http]\nlisten = "0.0.0.0:{port}"\ninsecure_http = true\n') as daemon:
        assert heard(daemon.http_port, b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").startswith(
            b"HTTP/1.1 404"
        )


def test_b105_an_address_that_cannot_be_had_is_refused_with_78(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        taken = Daemon(tmp_path / "taken", f'[dicom]\nlisten = "127.0.0.1:{port}"\n').cli("serve", check=False)
    assert taken.returncode == 78
    assert f"[dicom] listen: port {port} is in use by another program" in taken.stderr
    foreign = Daemon(tmp_path / "foreign", '[dicom]\nlisten = "192.0.2.1:11112"\n').cli("serve", check=False)
    assert foreign.returncode == 78
    assert "[dicom] listen: 192.0.2.1 is not an address of this machine" in foreign.stderr
    assert "Traceback" not in taken.stderr + foreign.stderr


def test_b106_a_state_folder_in_memory_or_without_room_is_refused_with_78(tmp_path: Path) -> None:
    memory = Path("/dev/shm") / f"sendrs-test-{os.getpid()}"
    if filesystem_of(memory) == "tmpfs":
        for said in refused(tmp_path / "memory", f'[state]\npath = "{memory}"\nunsafe_filesystem = false\n'):
            assert "is on tmpfs, which lives in memory: acknowledged instances could be lost" in said[0]
        assert not memory.exists()
    for said in refused(tmp_path / "full", '[state]\nmin_free_bytes = "1024TiB"\n'):
        assert "are to stay free" in said[0]
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    for said in refused(tmp_path / "way", f'[state]\npath = "{in_the_way}"\n'):
        assert said[0].endswith(f"[state] path: {in_the_way} is a file, not a folder")
