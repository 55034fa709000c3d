"""Row B105: an address that cannot be listened on is told before anything is started."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

import pytest

from router.cli import addresses
from router.cli.addresses import check_addresses
from router.config.model import Config, DicomConfig, HttpConfig, Listen

FREE = Listen("127.0.0.1", 0)


def complaints(tmp_path: Path, dicom: Listen) -> list[str]:
    file = tmp_path / "router.toml"
    file.write_text(f'[dicom]\nlisten = "{dicom.host}:{dicom.port}"\n')
    config = Config(file=file, dicom=DicomConfig(listen=dicom), http=HttpConfig(listen=FREE))
    return [str(error).replace(f"{tmp_path}/", "") for error in check_addresses(config)]


def test_b105_a_free_port_is_fine_and_free_again_afterwards(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for _ in range(2):
        assert complaints(tmp_path, Listen("127.0.0.1", port)) == []


def test_b105_a_port_in_use_is_told_with_the_command_that_finds_its_owner(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert complaints(tmp_path, Listen("127.0.0.1", port)) == [
            f"router.toml:2: [dicom] listen: port {port} is in use by another program; "
            f'see who has it with "ss -ltnp sport = :{port}", and stop it or choose another port'
        ]


def test_b105_an_address_of_another_machine_is_told(tmp_path: Path) -> None:
    assert complaints(tmp_path, Listen("192.0.2.1", 11112)) == [
        "router.toml:2: [dicom] listen: 192.0.2.1 is not an address of this machine; "
        '"0.0.0.0" stands for all of its addresses'
    ]


def test_b105_a_privileged_port_without_the_capability_names_the_option_of_the_unit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unprivileged(socket.socket):
        def bind(self, address: object) -> None:
            if isinstance(address, tuple) and address[1] == 104:
                raise PermissionError(errno.EACCES, "Permission denied")
            super().bind(address)  # type: ignore[arg-type]

    monkeypatch.setattr(addresses.socket, "socket", Unprivileged)
    assert complaints(tmp_path, Listen("127.0.0.1", 104)) == [
        "router.toml:2: [dicom] listen: port 104 is below 1024 and needs a permission that this process does not have; "
        "in the systemd unit: AmbientCapabilities=CAP_NET_BIND_SERVICE; or listen on 11112"
    ]
