"""The commands' side of the control socket: ask the running router one thing and wait for its answer."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Final, TypeVar

from router.control.addressing import short_path
from router.control.language import MAX_ANSWER_BYTES, Answer, Failed, Question, decode_answer, encode, socket_of
from router.errors import PeerError, RouterError

T = TypeVar("T", bound=Answer)

ANSWER_S: Final = 60.0
"""A retry of a million parked instances takes some six seconds."""
CHUNK_BYTES: Final = 64 * 1024


class NoAnswer(RouterError):
    """The router runs, but it could not be asked, or it said no; the command line exits with 75."""


def ask(state: Path, question: Question, expected: type[T], *, timeout_s: float = ANSWER_S) -> T:
    """Ask the router that has the state folder locked. Raises NoAnswer with what to do."""
    path = socket_of(state)
    try:
        with socket.socket(socket.AF_UNIX) as connection, short_path(path) as short:
            connection.settimeout(timeout_s)
            connection.connect(short)
            connection.sendall(encode(question))
            answer = decode_answer(_line(connection))
    except TimeoutError:
        raise NoAnswer(f"the router did not answer within {timeout_s:g} s") from None
    except (FileNotFoundError, ConnectionRefusedError):
        raise NoAnswer(
            f"nobody answers at {path}: if the router is just starting, try again; its log says more"
        ) from None
    except PermissionError:
        raise NoAnswer(f"{path} is for the router's own user: try again as that user, or with sudo") from None
    except OSError as error:
        raise NoAnswer(f"the router cannot be asked at {path}: {error.strerror}") from error
    except PeerError as error:
        raise NoAnswer(f"{error.problem}; is the running router another version than this command?") from error
    if isinstance(answer, Failed):
        raise NoAnswer(f"the router says: {answer.error}")
    if not isinstance(answer, expected):
        raise NoAnswer("the router answered something else; is it another version than this command?")
    return answer


def _line(connection: socket.socket) -> bytes:
    """Read until the router closes the connection. Raises OSError, PeerError."""
    received = bytearray()
    while chunk := connection.recv(CHUNK_BYTES):
        received += chunk
        if len(received) > MAX_ANSWER_BYTES:
            raise PeerError(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
    return bytes(received)
