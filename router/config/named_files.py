"""What can be wrong with the files that router.toml names: secrets that others can read, certificates that are none."""

from __future__ import annotations

import ssl
import stat
from pathlib import Path

READABLE_BY_OTHERS = 0o007
MAX_SECRET_BYTES = 65_536
"""Tokens have a few KiB; more is another kind of file, or /dev/zero."""
MAX_CERTIFICATES_BYTES = 4 * 1024**2
"""Debian's whole bundle of certificate authorities has a quarter of this."""


def secret_file_problem(path: Path) -> tuple[str, str]:
    """Say what is wrong with a file that holds a token, and what mends it; ("", "") when it is fine (B102)."""
    content, mode, problem = _read(path, MAX_SECRET_BYTES)
    if problem:
        return problem, ""
    if mode & READABLE_BY_OTHERS:
        return f"{path} can be read by everybody on this machine", f"chmod o= {path}"
    lines = content.split()
    if len(lines) != 1:
        return (
            f"{path} {'is empty' if not lines else 'holds more than one word'}",
            "it holds the token and nothing else",
        )
    if not (lines[0].isascii() and lines[0].decode("latin-1").isprintable()):
        return f"{path} holds characters that cannot be part of a token", ""
    return "", ""


def ca_file_problem(path: Path) -> str:
    """Say what is wrong with a file of PEM certificates, "" when it is fine (B103). Dates count when connecting."""
    content, _, problem = _read(path, MAX_CERTIFICATES_BYTES)
    if problem:
        return problem
    if b"PRIVATE KEY-----" in content and b"-----BEGIN CERTIFICATE-----" not in content:
        return f"{path} holds a private key, not the certificate of an authority"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=content.decode("ascii", "replace"))
    except (ssl.SSLError, ValueError):
        return f"{path} is not a file of PEM certificates"
    return "" if context.get_ca_certs() else f"{path} holds no certificate of an authority"


def _read(path: Path, limit: int) -> tuple[bytes, int, str]:
    """Read a small regular file: content, permission bits, problem."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return b"", 0, f"{path} is not a file"
        if status.st_size > limit:
            return b"", 0, f"{path} is larger than {limit // 1024} KiB"
        with path.open("rb") as stream:
            return stream.read(limit), stat.S_IMODE(status.st_mode), ""
    except FileNotFoundError:
        return b"", 0, f"{path} does not exist"
    except OSError as error:
        return b"", 0, f"{path} cannot be read: {error.strerror}"
