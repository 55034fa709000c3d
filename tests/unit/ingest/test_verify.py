"""`sendrs verify`: says what does not agree, and only that; beside a live daemon too."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ingest_harness import SOURCE, data_set, declared, open_core

from router.errors import StorageError
from router.ingest.verify import verify


async def test_a_sound_state_folder_agrees(tmp_path: Path) -> None:
    async with open_core(tmp_path) as core:
        for number in range(5):
            await core.send(f"1.2.9.{number + 1}")
    report = await verify(tmp_path)
    assert (report.rows, report.files, report.different, report.daemon) == (5, 5, 0, None)
    assert report.agrees


async def test_beside_a_live_daemon_what_is_coming_in_is_no_difference(tmp_path: Path) -> None:
    async with open_core(tmp_path) as core:
        await core.send("1.2.9.1")
        reception = core.ingest.open_visit(SOURCE).receive(declared("1.2.9.2"))
        await reception.write(bytes(600_000))
        await reception.write(bytes(1))
        report = await verify(tmp_path)
        assert report.daemon == os.getpid()
        assert report.agrees
        assert report.in_hand > 1
        await reception.discard()


@pytest.mark.parametrize("position", [0, 140, 280, -1])
async def test_f21_a_flipped_bit_is_found(tmp_path: Path, position: int) -> None:
    async with open_core(tmp_path) as core:
        await core.send("1.2.9.1")
        [(file, offset)] = await core.rows("SELECT file, data_set_offset FROM instance")
    path = tmp_path / "store" / file
    content = bytearray(path.read_bytes())
    content[position if position < 0 else offset + position] ^= 4
    path.write_bytes(content)
    report = await verify(tmp_path)
    assert [one.file for one in report.differences] == [file]
    assert "SHA-256" in report.differences[0].problem
    assert (await verify(tmp_path, hashes=False)).agrees, "sizes alone do not show it"


async def test_missing_truncated_and_extra_files_are_told_apart(tmp_path: Path) -> None:
    async with open_core(tmp_path) as core:
        for number in range(4):
            await core.send(f"1.2.9.{number + 1}")
        files = [row[0] for row in await core.rows("SELECT file FROM instance ORDER BY arrival")]
        await core.journal.write(
            lambda conn: (
                conn.execute("DELETE FROM sub_operation WHERE instance_id = (SELECT max(id) FROM instance)"),
                conn.execute("DELETE FROM instance WHERE id = (SELECT max(id) FROM instance)"),
            )
        )
    store = tmp_path / "store"
    (store / files[0]).unlink()
    (store / files[1]).write_bytes((store / files[1]).read_bytes()[:-5])
    empty = files[0].split("/")[0] + "/" + "0" * 32 + ".dcm"
    (store / empty).touch()
    report = await verify(tmp_path)
    problems = {one.file: one.problem for one in report.differences}
    assert problems[files[0]] == "No such file or directory"
    assert "bytes instead of" in problems[files[1]]
    assert problems[files[3]] == "whole file without a row"
    assert problems[empty] == "empty file without a row"
    assert report.different == len(problems) == 4


async def test_verify_changes_nothing_and_says_so_when_there_is_nothing(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        await verify(tmp_path / "nowhere")
    async with open_core(tmp_path) as core:
        await core.send("1.2.9.1", data_set("1.2.9.1"))
    before = _times(tmp_path)
    await verify(tmp_path)
    assert _times(tmp_path) == before


def _times(folder: Path) -> list[tuple[str, int]]:
    return sorted((path.name, path.stat().st_mtime_ns) for path in folder.rglob("*.dcm"))
