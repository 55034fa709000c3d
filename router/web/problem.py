"""Errors as application/problem+json (RFC 9457): what is wrong, where, what is allowed, what to do next."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

import msgspec
from starlette.responses import Response

JOURNAL_RETRY_AFTER_S = 10
"""When to come again while the journal cannot be used."""


def problem(
    status: int,
    detail: str,
    *,
    where: str = "",
    allowed: str = "",
    next_step: str = "",
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Make an error answer. `detail` is a sentence for a person; empty members are left out."""
    try:
        title = HTTPStatus(status).phrase
    except ValueError:
        title = "Error"
    members = {"detail": detail, "where": where, "allowed": allowed, "next": next_step}
    content = {"type": "about:blank", "title": title, "status": status} | {k: v for k, v in members.items() if v}
    return Response(
        msgspec.json.encode(content),
        status_code=status,
        headers=dict(headers or {}),
        media_type="application/problem+json",
    )


def unavailable() -> Response:
    """Answer 503: the journal cannot be used."""
    return problem(
        503,
        "The journal cannot be used at the moment.",
        next_step=f"Come again after {JOURNAL_RETRY_AFTER_S} s.",
        headers={"Retry-After": str(JOURNAL_RETRY_AFTER_S)},
    )
