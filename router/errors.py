"""The error tree: one class for each thing a caller does about it. Fields, not prose; imports nothing of ours.

`ConfigError` is for the person who wrote the file, `Refused` is us saying no to a peer, `PeerError` is a peer breaking
its protocol, `DeliveryError` is a destination not taking an instance, `StorageError` our own disk or journal failing.
"""

from __future__ import annotations

from collections.abc import Iterable


class RouterError(Exception):
    """Anything this package raises on purpose."""


class ConfigError(RouterError):
    """One thing that is wrong in a configuration or rule file, said so that a person can mend it."""

    def __init__(self, file: str, where: str, problem: str, allowed: str = "", hint: str = "", line: int | None = None):
        self.file, self.where, self.line = file, where, line
        self.problem, self.allowed, self.hint = problem, allowed, hint
        super().__init__(str(self))

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        text = f"{place}: {self.where}: {self.problem}" if self.where else f"{place}: {self.problem}"
        if self.allowed:
            text += f"; allowed: {self.allowed}"
        if self.hint:
            text += f"; {self.hint}"
        return text


class ConfigErrors(RouterError):
    """All that is wrong, found in one pass, so that a person mends the file once."""

    def __init__(self, errors: Iterable[ConfigError]):
        self.errors = tuple(errors)
        super().__init__("\n".join(str(error) for error in self.errors))


class Refused(RouterError):
    """We decline one instance. `status` is the DIMSE status (PS3.7 Annex C) and, unchanged, the STOW Failure Reason."""

    def __init__(self, status: int, reason: str):
        self.status, self.reason = status, reason
        super().__init__(f"{status:04X}H {reason}")


class PeerError(RouterError):
    """A peer's bytes break its protocol.

    `abort_reason` is the A-ABORT provider reason where DIMSE is spoken (PS3.8 Table 9-26).
    """

    def __init__(self, problem: str, abort_reason: int = 0):
        self.problem, self.abort_reason = problem, abort_reason
        super().__init__(problem)


class DeliveryError(RouterError):
    """A destination could not be talked to at all; no instance is to blame."""

    def __init__(self, problem: str):
        self.problem = problem
        super().__init__(problem)


class Transient(DeliveryError):
    """Unreachable, busy or broken just now: try again later. `retry_after_s` when the destination said when."""

    def __init__(self, problem: str, retry_after_s: float | None = None):
        super().__init__(problem)
        self.retry_after_s = retry_after_s


class Misconfigured(DeliveryError):
    """The destination says no to us as such (AE title, address, credentials, URL): a person must change something."""


class StorageError(RouterError):
    """Our own disk or journal failed. Nothing that was in hand may be acknowledged."""
