"""Bounded threads for disk work, so that the event loop never waits for a disk (F27) and writing never starves
reading (F62).

`ThreadPoolExecutor.submit` with one `call_soon_threadsafe` of our own costs 25 µs a round trip here;
`run_in_executor` costs 34, `anyio.to_thread` 39. A job may also speak to the loop more than once, which the flush
needs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class Workers:
    """One pool of threads, named for `top -H`."""

    def __init__(self, name: str, threads: int):
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)

    def submit(self, job: Callable[[], None]) -> None:
        """Run `job` on a thread, in the order of submission; it must not raise, it tells the loop itself what came
        of it.
        """
        self._pool.submit(job)

    def start(self, job: Callable[[], T]) -> asyncio.Future[T]:
        """Run `job` on a thread; the future gets what it gives or raises. Cancelling the future does not stop the
        job.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def work() -> None:
            try:
                result = job()
            except BaseException as error:  # noqa: BLE001 - the edge of a thread: carried over to who waits
                tell(loop, _fail, done, error)
            else:
                tell(loop, settle, done, result)

        self._pool.submit(work)
        return done

    async def run(self, job: Callable[[], T]) -> T:
        """Run `job` on a thread and wait for it. When the caller is cancelled the job still runs to its end."""
        return await self.start(job)

    def close(self) -> None:
        """Wait for the jobs under way and end the threads. Blocks; call it when nothing is under way, or from a
        thread.
        """
        self._pool.shutdown(wait=True)


def tell(loop: asyncio.AbstractEventLoop, callback: Callable[..., object], *arguments: object) -> None:
    """Call back on the loop from a thread; when the loop is gone there is nobody left to tell."""
    try:
        loop.call_soon_threadsafe(callback, *arguments)
    except RuntimeError:
        if not loop.is_closed():
            raise


def settle(future: asyncio.Future[T], result: T) -> None:
    """Give a future its result, unless its waiter has gone."""
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[T], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
