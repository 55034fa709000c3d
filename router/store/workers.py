"""Bounded threads for disk work, so that the event loop never waits for a disk (F27) and writing never starves
reading (F62).

A queue and threads, because `ThreadPoolExecutor` makes a future with a lock of its own for each job, which nobody here
looks at: 15 µs less for an instance. A job may also speak to the loop when it likes, which the flush needs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from queue import SimpleQueue
from threading import Lock, Thread
from typing import TypeVar

import structlog

log = structlog.get_logger()

T = TypeVar("T")


class Workers:
    """One pool of threads, named for `top -H`. They are begun as they are first needed, and end with `close`."""

    def __init__(self, name: str, threads: int):
        self._name, self._most = name, threads
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._lock = Lock()
        self._threads: list[Thread] = []
        self._idle = 0  # threads that wait for a job; less than none when jobs wait for a thread
        self._closed = False

    def submit(self, job: Callable[[], None]) -> None:
        """Run `job` on a thread, in the order of submission; it must not raise, it tells the loop itself what came
        of it. Raises RuntimeError after `close`.
        """
        with self._lock:
            if self._closed:
                raise RuntimeError(f"{self._name}: closed")
            self._idle -= 1
            if self._idle < 0 and len(self._threads) < self._most:
                # a daemon: a process that ends without `close` does not wait for a disk
                thread = Thread(target=self._work, name=f"{self._name}-{len(self._threads)}", daemon=True)
                self._threads.append(thread)
                thread.start()
            self._jobs.put(job)

    def _work(self) -> None:
        while True:
            with self._lock:
                self._idle += 1
            job = self._jobs.get()
            if job is None:
                return
            try:
                job()
            except Exception:  # the edge of a thread, which must go on
                log.exception("disk job failed in our code")
            del job  # what it holds, too

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

        self.submit(work)
        return done

    async def run(self, job: Callable[[], T]) -> T:
        """Run `job` on a thread and wait for it. When the caller is cancelled the job still runs to its end."""
        return await self.start(job)

    def close(self) -> None:
        """Wait for the jobs under way and end the threads. Blocks; call it when nothing is under way, or from a
        thread.
        """
        with self._lock:
            self._closed = True
            for _ in self._threads:
                self._jobs.put(None)
        for thread in self._threads:
            thread.join()


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


def forget(future: asyncio.Future[T]) -> None:
    """Nobody will ask for a result, or for an error, any more."""
    if not future.cancel() and not future.cancelled():
        future.exception()


def _fail(future: asyncio.Future[T], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
