"""kill -9 of a process that takes instances in: what it said that it has, it has (F1, L3)."""

from __future__ import annotations

import random
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from router.ingest.verify import verify

HARNESS = Path(__file__).parents[1] / "unit" / "ingest"
ROUNDS = 6

RECEIVER = """
    import anyio, os, sys
    from pathlib import Path
    sys.path[:0] = {paths!r}
    from ingest_harness import data_set, open_core

    async def sender(core, number):
        count = 0
        while True:
            count += 1
            uid = f"1.2.9.{{os.getpid()}}.{{number}}.{{count}}"
            pixels = bytes(600_000) if count % 5 == 0 else b"12" * 50
            await core.send(uid, data_set(uid, pixels=pixels), chunk=100_000)
            os.write(1, f"acknowledged {{uid}}\\n".encode())

    async def main():
        async with open_core(Path({state!r})) as core:
            os.write(1, b"ready\\n")
            async with anyio.create_task_group() as senders:
                for number in range(8):
                    senders.start_soon(sender, core, number)

    anyio.run(main)
"""


@pytest.mark.crash
async def test_what_was_acknowledged_before_a_kill_is_there_and_intact_afterwards(tmp_path: Path) -> None:
    sys.path.insert(0, str(HARNESS))
    from ingest_harness import open_core

    root = Path(__file__).parents[2]
    state = tmp_path / "state"
    script = tmp_path / "receiver.py"
    script.write_text(textwrap.dedent(RECEIVER.format(paths=[str(root), str(HARNESS)], state=str(state))))
    chance = random.Random(20240102)
    acknowledged: set[str] = set()
    for _ in range(ROUNDS):
        acknowledged |= _receive_until_killed(script, after=chance.randrange(1, 250))
    async with open_core(state) as core:
        assert core.swept.lost_after_ack == 0
        kept = {row[0] for row in await core.rows("SELECT sop_instance_uid FROM instance")}
        waiting = {row[0] for row in await core.rows("SELECT sop_instance_uid FROM sub_operation")}
    assert len(acknowledged) > ROUNDS
    assert acknowledged <= kept
    assert acknowledged <= waiting
    report = await verify(state)
    assert report.differences == []


def _receive_until_killed(script: Path, *, after: int) -> set[str]:
    """Run the receiver, kill it when it has acknowledged so many, and give all that it acknowledged."""
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as receiver:
        assert receiver.stdout is not None
        heard = []
        for line in receiver.stdout:
            if line.startswith("acknowledged "):
                heard.append(line.split()[1])
                if len(heard) == after:
                    receiver.kill()
        receiver.wait(timeout=30)
    assert receiver.returncode == -9
    return set(heard)
