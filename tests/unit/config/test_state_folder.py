"""Row B106: where the state may live, and what is said when it may not."""

from __future__ import annotations

from pathlib import Path

import pytest

from router.config import state_folder
from router.config.model import Config, StateConfig
from router.config.state_folder import check_state_folder, filesystem_of


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    """A table of mounts in which the folder `odd` of this test is on the filesystem that its name says."""
    kinds = ("tmpfs", "nfs4", "vfat", "overlay", "fuse.sshfs", "ext4")
    lines = ["/dev/sda1 / ext4 rw 0 0"]
    for kind in kinds:
        (tmp_path / kind).mkdir()
        lines.append(f"none {tmp_path / kind} {kind} rw 0 0")
    (tmp_path / "with space").mkdir()
    lines.append(f"none {tmp_path}/with\\040space tmpfs rw 0 0")
    file = tmp_path / "mounts"
    file.write_text("\n".join(lines) + "\n")
    return file


def config(tmp_path: Path, folder: Path, **more: object) -> Config:
    file = tmp_path / "router.toml"
    file.write_text(f'# first line\n[state]\npath = "{folder}"\nmin_free_bytes = 0\n')
    state = StateConfig(path=folder, **{"min_free_bytes": 0, **more})  # type: ignore[arg-type]
    return Config(file=file, state=state)


def complaints(tmp_path: Path, mounts: Path, folder: Path, **more: object) -> list[str]:
    found = check_state_folder(config(tmp_path, folder, **more), mounts=mounts)
    return [str(error).replace(str(tmp_path), "TMP") for error in found]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("tmpfs", "lives in memory"),
        ("nfs4", "is a network filesystem"),
        ("vfat", "has no journal"),
        ("overlay", "is a container's own layer, which goes with the container: mount a volume"),
        ("fuse.sshfs", "belongs to a program"),
    ],
)
def test_b106_a_filesystem_that_may_lose_data_is_refused_with_the_reason(
    tmp_path: Path, mounts: Path, kind: str, reason: str
) -> None:
    assert complaints(tmp_path, mounts, tmp_path / kind / "state") == [
        f"TMP/router.toml:3: [state] path: TMP/{kind} is on {kind}, which {reason}: "
        "acknowledged instances could be lost; "
        "use a local disk (ext4, XFS), or set unsafe_filesystem = true to accept the risk"
    ]
    assert complaints(tmp_path, mounts, tmp_path / kind / "state", unsafe_filesystem=True) == []


def test_b106_a_local_disk_is_fine_also_when_the_folder_is_not_there_yet(tmp_path: Path, mounts: Path) -> None:
    assert complaints(tmp_path, mounts, tmp_path / "ext4" / "deep" / "state") == []
    assert not (tmp_path / "ext4" / "deep").exists()


def test_b106_mounts_with_spaces_in_their_names_are_understood(tmp_path: Path, mounts: Path) -> None:
    assert filesystem_of(tmp_path / "with space" / "state", mounts=mounts) == "tmpfs"
    assert filesystem_of(tmp_path, mounts=mounts) == "ext4"
    assert filesystem_of(tmp_path, mounts=tmp_path / "nowhere") == ""


def test_b106_a_file_in_the_way_is_named(tmp_path: Path, mounts: Path) -> None:
    (tmp_path / "state").write_text("")
    assert complaints(tmp_path, mounts, tmp_path / "state") == [
        "TMP/router.toml:3: [state] path: TMP/state is a file, not a folder"
    ]


def test_b106_too_little_room_keeps_a_new_router_from_starting_but_not_one_that_holds_instances(
    tmp_path: Path, mounts: Path
) -> None:
    folder = tmp_path / "ext4"
    [text] = complaints(tmp_path, mounts, folder, min_free_bytes=1024**5)
    assert text.startswith("TMP/router.toml:4: [state] min_free_bytes: 1024 TiB are to stay free, and TMP/ext4 has ")
    assert text.endswith("GiB: nothing could be received; make room, choose another disk, or lower it")
    (folder / "journal.db").write_text("")
    assert complaints(tmp_path, mounts, folder, min_free_bytes=1024**5) == []


def test_b106_a_folder_of_another_user_is_told_with_the_command_that_mends_it(
    tmp_path: Path, mounts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_folder.os, "access", lambda path, mode: False)
    monkeypatch.setattr(state_folder.os, "geteuid", lambda: 999)
    owner = (tmp_path / "ext4").stat().st_uid
    assert complaints(tmp_path, mounts, tmp_path / "ext4") == [
        f"TMP/router.toml:3: [state] path: TMP/ext4 belongs to user {owner} and cannot be written to by user 999; "
        "chown -R 999 TMP/ext4"
    ]
    assert complaints(tmp_path, mounts, tmp_path / "ext4" / "state") == [
        "TMP/router.toml:3: [state] path: TMP/ext4/state does not exist and user 999 cannot create it in TMP/ext4; "
        "install -d -m 750 -o 999 TMP/ext4/state"
    ]
