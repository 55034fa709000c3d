"""Read-only connections, each on a thread of its own, for everything that only looks."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar

import aiosqlite
import anyio
import anyio.to_thread

from router.errors import StorageError
from router.journal.connection import FILE_NAME, open_for_reading

T = TypeVar("T")

READ_LIMIT_S: Final = 2.0
"""A read transaction is broken off after so long: an open one keeps the write-ahead log from being cut back (F28)."""
CHUNK_ROWS: Final = 64
"""aiosqlite asks for it; we never iterate over the thread border."""


class QueryTooLong(StorageError):
    """A query was broken off. Ask for less at once."""


async def start(connection: aiosqlite.Connection) -> None:
    """Open a connection. When that fails, wait for its thread to end, which aiosqlite leaves behind (#259)."""
    try:
        await connection
    except BaseException:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(connection._thread.join)
        raise


class ReadingConnection(aiosqlite.Connection):
    """aiosqlite's connection, given one whole query function at a time."""

    def __init__(self, path: Path):
        super().__init__(lambda: open_for_reading(path), CHUNK_ROWS)

    async def ask(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Run `query` on the connection's thread, in one read transaction."""

        def transaction() -> T:
            conn = self._conn
            conn.execute("BEGIN")
            try:
                return query(conn)
            finally:
                if conn.in_transaction:
                    conn.execute("ROLLBACK")

        result: T = await self._execute(transaction)  # type: ignore[no-untyped-call]
        return result

    def break_off(self) -> None:
        self._conn.interrupt()


class Readers:
    """A few read-only connections, opened when first needed."""

    def __init__(self, path: Path, connections: int):
        self._path = path
        self._unopened = connections
        self._idle: list[ReadingConnection] = []
        self._all: list[ReadingConnection] = []
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Run `query` in one read transaction and give its result.

        Raises StorageError; QueryTooLong after two seconds.
        """
        conn = await self._take()
        timer = asyncio.get_running_loop().call_later(READ_LIMIT_S, conn.break_off)
        try:
            return await conn.ask(query)
        except asyncio.CancelledError:
            conn.break_off()
            raise
        except sqlite3.Error as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
                raise QueryTooLong(f"a query took longer than {READ_LIMIT_S:g} s") from error
            raise StorageError(f"cannot read the journal: {error}") from error
        finally:
            timer.cancel()
            self._give_back(conn)

    async def close(self) -> None:
        """Close all connections. Nobody may be reading."""
        for conn in self._all:
            await conn.close()
        self._all.clear()
        self._idle.clear()

    async def _take(self) -> ReadingConnection:
        while not self._idle:
            if self._unopened:
                self._unopened -= 1
                try:
                    conn = ReadingConnection(self._path)
                    await start(conn)
                except BaseException:
                    self._unopened += 1
                    raise
                self._all.append(conn)
                return conn
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                self._wake_next()
                raise
        return self._idle.pop()

    def _give_back(self, conn: ReadingConnection) -> None:
        self._idle.append(conn)
        self._wake_next()

    def _wake_next(self) -> None:
        while self._waiting and self._idle:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return


@asynccontextmanager
async def open_readonly(state: Path) -> AsyncIterator[Readers]:
    """Open the journal of a state folder to look at it, beside a running daemon or without one.

    Raises StorageError, JournalTooNew.
    """
    path = state / FILE_NAME
    if not path.exists():
        raise StorageError(f"there is no journal in {state}")
    readers = Readers(path, connections=1)
    try:
        yield readers
    finally:
        with anyio.CancelScope(shield=True):
            await readers.close()
