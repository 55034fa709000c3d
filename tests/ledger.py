"""A sender that remembers what it heard acknowledged, and the check that nothing of it is missing.

The client is our own sans-IO upper layer on a blocking socket, or `http.client`: an instance counts as acknowledged
only after the answer was read whole (reliability-study 3.2).
"""

from __future__ import annotations

import hashlib
import http.client
import json
import random
import socket
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pydicom import dcmread

from router.cli.samples import ct_series
from router.dicom.uids import AETitle, Uid
from router.dimse.commands import C_STORE_RQ
from router.dimse.events import AssociateAccepted, Command, CommandReceived, ProposedContext
from router.dimse.upper_layer import UpperLayer
from router.errors import PeerError

TIMEOUT_S = 20.0
BETWEEN_S = 0.01
"""A sender's pause between two instances: the slowest sink must be able to follow."""


def data_set_of(content: bytes) -> bytes:
    """Give the data set of a PS3.10 file: what follows its File Meta Information."""
    assert content[128:132] == b"DICM"
    at = 132
    while content[at : at + 2] == b"\x02\x00":
        long_form = content[at + 4 : at + 6] in (b"OB", b"UN", b"UT", b"OW", b"SQ")
        length = int.from_bytes(content[at + 8 : at + 12] if long_form else content[at + 6 : at + 8], "little")
        at += (12 if long_form else 8) + length
    return content[at:]


class Instances:
    """An endless supply of small CT instances: one template, each time a new SOP Instance UID of the same length."""

    def __init__(self, folder: Path, seed: int, *, rows: int = 64, columns: int = 64):
        template = next(ct_series(folder, 1, rows=rows, columns=columns, seed=seed))
        self._uid = str(dcmread(template).SOPInstanceUID)
        self._file = template.read_bytes()
        self.sop_class_uid = Uid("1.2.840.10008.5.1.4.1.1.2")
        self.transfer_syntax_uid = Uid("1.2.840.10008.1.2.1")
        self._random = random.Random(seed)
        self._lock = threading.Lock()

    def next(self) -> tuple[Uid, bytes]:
        """Give a SOP Instance UID never given before, and its PS3.10 file."""
        with self._lock:
            digits = len(self._uid) - len("2.25.")
            uid = f"2.25.{self._random.randrange(10 ** (digits - 1), 10**digits)}"
        assert len(uid) == len(self._uid)
        return Uid(uid), self._file.replace(self._uid.encode(), uid.encode())


class Ledger:
    """What senders saw acknowledged: SOP Instance UID → SHA-256 of the data set."""

    def __init__(self) -> None:
        self.acknowledged: dict[Uid, bytes] = {}
        self.refused: dict[Uid, int] = {}
        self.sent = 0

    def missing(self, received: Iterable[tuple[Uid, bytes]]) -> dict[Uid, str]:
        """Compare with what a destination has (UID, data set): gives what is lost or changed, with the reason."""
        there: dict[Uid, set[bytes]] = {}
        for uid, data_set in received:
            there.setdefault(uid, set()).add(hashlib.sha256(data_set).digest())
        return {
            uid: "changed" if uid in there else "lost"
            for uid, digest in self.acknowledged.items()
            if there.get(uid) != {digest}
        }


class Sender(threading.Thread):
    """Sends instance after instance until stopped; an error ends a connection, and the next one is opened."""

    def __init__(self, ledger: Ledger, instances: Instances, send_many: Callable[[Sender], None]):
        super().__init__(daemon=True)
        self.ledger, self.instances, self._send_many = ledger, instances, send_many
        self.stopping = threading.Event()
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.stopping.is_set():
                try:
                    self._send_many(self)
                except (OSError, PeerError, http.client.HTTPException):
                    time.sleep(0.05)
        except BaseException as error:
            self.failure = error
            raise

    def stop(self) -> None:
        self.stopping.set()
        self.join(TIMEOUT_S * 2)
        assert not self.is_alive(), "a sender hangs"
        assert self.failure is None, self.failure


def by_c_store(port: int, *, per_association: int = 40) -> Callable[[Sender], None]:
    """Send over associations of `per_association` instances each."""

    def send_many(sender: Sender) -> None:
        instances = sender.instances
        context = ProposedContext(1, instances.sop_class_uid, (instances.transfer_syntax_uid,))
        with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            layer = UpperLayer(requestor=True, max_pdu_bytes=65_536)
            layer.request(called_aet=AETitle("SENDRS"), calling_aet=AETitle("LEDGER"), contexts=[context])
            answer = _exchange(connection, layer)
            if not isinstance(answer, AssociateAccepted):
                raise ConnectionError(f"no association: {answer}")
            for message_id in range(1, per_association + 1):
                if sender.stopping.is_set():
                    break
                uid, file = instances.next()
                data_set = data_set_of(file)
                sender.ledger.sent += 1
                layer.send_command(
                    1,
                    Command(
                        C_STORE_RQ,
                        message_id=message_id,
                        affected_sop_class_uid=instances.sop_class_uid,
                        affected_sop_instance_uid=uid,
                        priority=0,
                        has_data_set=True,
                    ),
                )
                layer.send_data(1, data_set, last=True)
                answer = _exchange(connection, layer)
                assert isinstance(answer, CommandReceived), answer
                assert answer.command.message_id_responded_to == message_id
                _record(sender.ledger, uid, data_set, answer.command.status or 0)
                time.sleep(BETWEEN_S)
            layer.release()
            _exchange(connection, layer)

    return send_many


def by_stow(port: int, path: str, *, per_request: int = 5) -> Callable[[Sender], None]:
    """Send STOW-RS requests of `per_request` instances each."""

    def send_many(sender: Sender) -> None:
        batch = dict(sender.instances.next() for _ in range(per_request))
        sender.ledger.sent += len(batch)
        stored = stow(port, path, batch.values())
        for uid, file in batch.items():
            _record(sender.ledger, uid, data_set_of(file), 0 if uid in stored else 0x0110)
        time.sleep(BETWEEN_S * per_request)

    return send_many


def stow(port: int, path: str, files: Iterable[bytes]) -> set[Uid]:
    """Send PS3.10 files in one STOW-RS request, byte for byte; gives the SOP Instance UIDs answered as stored.

    Raises ConnectionError when the request as such failed.
    """
    parts = [b"--edge\r\nContent-Type: application/dicom\r\n\r\n" + file + b"\r\n" for file in files]
    headers = {
        "Content-Type": 'multipart/related; type="application/dicom"; boundary=edge',
        "Accept": "application/dicom+json",
    }
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request("POST", path, b"".join(parts) + b"--edge--\r\n", headers)
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    if answer.status not in (200, 202):
        raise ConnectionError(f"{answer.status} {body!r}")
    return {Uid(item["00081155"]["Value"][0]) for item in _items(json.loads(body), "00081199")}


def _items(module: dict[str, Any], tag: str) -> list[dict[str, Any]]:
    return list(module.get(tag, {}).get("Value", []))


def _record(ledger: Ledger, uid: Uid, data_set: bytes, status: int) -> None:
    if status == 0:
        ledger.acknowledged[uid] = hashlib.sha256(data_set).digest()
    else:
        ledger.refused[uid] = status


def _exchange(connection: socket.socket, layer: UpperLayer) -> object:
    """Write what is due and read until the next event."""
    connection.sendall(b"".join(layer.take_output()))
    while True:
        received = connection.recv(65_536)
        if not received:
            raise ConnectionError("the daemon closed the connection")
        events = layer.receive(received)
        if events:
            return events[0]
