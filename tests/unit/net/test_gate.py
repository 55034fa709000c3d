"""The gate: one waiter, woken or timed out, with one timer for all waits."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from router.net.gate import Gate


async def test_a_woken_waiter_goes_on() -> None:
    loop = asyncio.get_running_loop()
    gate = Gate(loop)
    loop.call_soon(gate.wake)
    await gate.wait_until(loop.time() + 60)
    gate.close()


async def test_a_wait_that_nobody_answers_times_out() -> None:
    loop = asyncio.get_running_loop()
    gate = Gate(loop)
    deadline = loop.time() + 0.02
    with pytest.raises(TimeoutError):
        await gate.wait_until(deadline)
    assert loop.time() >= deadline


async def test_the_timer_of_an_earlier_wait_does_not_cut_a_later_one_short() -> None:
    loop = asyncio.get_running_loop()
    gate = Gate(loop)
    loop.call_soon(gate.wake)
    await gate.wait_until(loop.time() + 0.02)
    deadline = loop.time() + 0.08
    with pytest.raises(TimeoutError):
        await gate.wait_until(deadline)
    assert loop.time() >= deadline


async def test_a_nearer_deadline_after_a_far_one_is_kept() -> None:
    loop = asyncio.get_running_loop()
    gate = Gate(loop)
    loop.call_soon(gate.wake)
    await gate.wait_until(loop.time() + 3600)
    with anyio.fail_after(5), pytest.raises(TimeoutError):
        await gate.wait_until(loop.time() + 0.02)


async def test_a_cancelled_waiter_can_wait_again() -> None:
    loop = asyncio.get_running_loop()
    gate = Gate(loop)
    with anyio.move_on_after(0.01) as scope:
        await gate.wait_until(loop.time() + 3600)
    assert scope.cancelled_caught
    gate.wake()  # nobody is there: not remembered
    loop.call_soon(gate.wake)
    await gate.wait_until(loop.time() + 3600)
    gate.close()


async def test_two_waiters_at_one_gate_are_a_mistake_of_ours() -> None:
    loop = asyncio.get_running_loop()
    gate = Gate(loop)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(gate.wait_until, loop.time() + 3600)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(RuntimeError):
            await gate.wait_until(loop.time() + 1)
        gate.wake()
    gate.close()
