"""Answers that are made while they are sent: readers that are slow or go away, bodies that break off."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

import anyio
import pytest
from starlette.types import Message

from router.errors import StorageError
from router.web.streaming import Streamed, begin_streaming

SCOPE = {"type": "http", "method": "GET", "path": "/dicom-web/studies/1.2"}


@dataclass
class Body:
    """Chunks that know how far they got."""

    chunks: int
    fails: Exception | None = None
    made: int = 0
    closed: bool = False

    async def __call__(self) -> AsyncGenerator[bytes, None]:
        try:
            for number in range(self.chunks):
                self.made += 1
                yield b"%d." % number
                await anyio.lowlevel.checkpoint()
            if self.fails is not None:
                raise self.fails
        finally:
            self.closed = True


@dataclass
class Reader:
    """Takes `takes` chunks, then no more; or goes away after `stays` messages."""

    takes: int = 1000
    stays: int = 1000
    messages: list[Message] = field(default_factory=list)
    _gone: anyio.Event = field(default_factory=anyio.Event)

    async def receive(self) -> Message:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if len(self.messages) > self.takes:
            await anyio.sleep_forever()
        self.messages.append(message)
        if len(self.messages) > self.stays:
            self._gone.set()
            await anyio.sleep_forever()

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.messages[1:])

    @property
    def ended(self) -> bool:
        return not self.messages[-1].get("more_body", False)


async def answer(body: Body) -> Streamed:
    return await begin_streaming(body(), content_type="text/plain", length=3)


async def test_a_body_is_sent_to_its_end() -> None:
    body, reader = Body(30), Reader()
    await (await answer(body))(SCOPE, reader.receive, reader.send)
    assert reader.body == b"".join(b"%d." % number for number in range(30))
    assert (reader.ended, body.closed) == (True, True)
    assert (b"content-length", b"3") in reader.messages[0]["headers"]


async def test_only_one_chunk_is_made_ahead_of_a_slow_reader() -> None:
    body, reader = Body(30), Reader(takes=5)
    streamed = await answer(body)
    with anyio.move_on_after(0.05):
        await streamed(SCOPE, reader.receive, reader.send)
    assert len(reader.messages) == 6  # the head, and the chunks that were taken
    assert (body.made <= 8, body.closed) == (True, True)


async def test_a_large_chunk_is_handed_over_in_pieces() -> None:
    async def chunks() -> AsyncGenerator[bytes, None]:
        yield bytes(2_172_864)

    reader = Reader()
    streamed = await begin_streaming(chunks(), content_type="text/plain")
    await streamed(SCOPE, reader.receive, reader.send)
    assert [len(message["body"]) for message in reader.messages[1:]] == [1_048_576, 1_048_576, 75_712, 0]


async def test_a_reader_that_goes_away_ends_the_work() -> None:
    body, reader = Body(10_000), Reader(stays=3)
    await (await answer(body))(SCOPE, reader.receive, reader.send)
    assert (len(reader.messages), body.closed) == (4, True)
    assert body.made < 10


async def test_what_goes_wrong_on_the_way_breaks_the_answer_off() -> None:
    body, reader = Body(3, StorageError("the disk is gone")), Reader()
    await (await answer(body))(SCOPE, reader.receive, reader.send)
    assert (reader.body, reader.ended) == (b"0.1.2.", False)


async def test_what_goes_wrong_at_once_can_still_be_answered() -> None:
    with pytest.raises(StorageError):
        await answer(Body(0, StorageError("the disk is gone")))


async def test_head_makes_no_more_than_the_first_chunk() -> None:
    body, reader = Body(30), Reader()
    await (await answer(body))({**SCOPE, "method": "HEAD"}, reader.receive, reader.send)
    assert (reader.body, reader.ended, body.made, body.closed) == (b"", True, 1, True)
