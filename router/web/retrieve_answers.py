"""What a retrieve request names, and what is said when it cannot be had (PS3.18 §10.4.3.1, Table 10.4.3-1)."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from starlette.requests import Request
from starlette.responses import Response

from router.dicom.bulk import NoSuchValue
from router.dicom.frames import CannotSeparate, NoPixelData, NoSuchFrame
from router.dicom.reencode import CannotReencode
from router.dicom.uids import Uid, is_valid_uid
from router.dicomweb.accept import MixedTypes, NotAcceptable
from router.dicomweb.query_string import BadQuery
from router.errors import PeerError, StorageError
from router.search import Scope
from router.store.files import DamagedFile
from router.web.instance_parts import NothingLeft
from router.web.problem import problem
from router.web.rendering import problem_of

log = structlog.get_logger()

Endpoint = Callable[[Request], Awaitable[Response]]

_LEVELS: Final = {"study": "study", "series": "series", "instance": "instance", "uid": "instance"}
"""What the path parameters name; {uid} is a non-patient instance."""
_WHOLE: Final = "Retrieve the whole instance, with transfer-syntax=* in Accept."


class BadPath(ValueError):
    """400: the path cannot be read."""

    def __init__(self, problem: str, allowed: str):
        self.problem, self.allowed = problem, allowed
        super().__init__(problem)


class NotFound(LookupError):
    """404: there is nothing of that name."""

    def __init__(self, problem: str, next_step: str = ""):
        self.problem, self.next_step = problem, next_step
        super().__init__(problem)


def scope_of(request: Request) -> Scope:
    """Read the UIDs of the path. Raises BadPath."""
    uids: dict[str, Uid] = {}
    for name, level in _LEVELS.items():
        text = request.path_params.get(name)
        if text is None:
            continue
        if not is_valid_uid(text, odd=True):
            raise BadPath(f"The {level} in the path is not a UID.", "digits and dots, 64 at most")
        uids[level] = Uid(text)
    return Scope(**uids)


def answering_errors(endpoint: Endpoint) -> Endpoint:
    """Wrap an endpoint so that what it raises becomes a Status Report."""

    @functools.wraps(endpoint)
    async def answering(request: Request) -> Response:
        try:
            return await endpoint(request)
        except (BadQuery, NotAcceptable, MixedTypes) as error:
            return problem_of(error)
        except BadPath as error:
            return problem(400, error.problem, where=request.url.path[:300], allowed=error.allowed)
        except (NotFound, NoSuchFrame, NoPixelData, NoSuchValue) as error:
            return _not_found(request, error)
        except CannotSeparate as error:
            return problem(
                501, f"The frames cannot be taken apart here: {error}.", where=request.url.path[:300], next_step=_WHOLE
            )
        except (DamagedFile, NothingLeft, CannotReencode, PeerError, StorageError) as error:
            return _unreadable(request, error)

    return answering


def _not_found(request: Request, error: Exception) -> Response:
    where = request.url.path[:300]
    match error:
        case NotFound():
            return problem(404, error.problem, where=where, next_step=error.next_step)
        case NoSuchFrame():
            return problem(404, f"There is no frame {error.number}.", where=where, allowed=f"1 to {error.count}")
        case NoPixelData():
            return problem(404, "The instance has no pixel data.", where=where)
        case _:
            return problem(
                404, "There is no such bulk data.", where=where, next_step="Take a BulkDataURI from the metadata."
            )


def _unreadable(request: Request, error: Exception) -> Response:
    """500: what was stored is damaged, or is no data set that could be sent. Not 410: nobody deleted it on purpose."""
    log.error("not retrievable", path=request.url.path[:300], problem=str(error))
    match error:
        case DamagedFile() | NothingLeft():
            detail = "What is stored here is damaged, or no longer there."
            next_step = "Tell the router's administrator: `sendrs verify` names what is damaged. Send it again."
        case CannotReencode():
            detail = f"The data set cannot be converted to Explicit VR Little Endian: {error}."
            next_step = "It was received so; fetch it over DIMSE from where it came."
        case PeerError():
            detail, next_step = f"The data set cannot be read: {error.problem}.", _WHOLE
        case _:
            detail, next_step = "The store cannot be read just now.", "Try again; see the log of the router."
    return problem(500, detail, where=request.url.path[:300], next_step=next_step)
