"""`sendrs version`."""

from __future__ import annotations

import platform
from importlib.metadata import version as version_of

from router.cli.exits import ExitCode


def version() -> int:
    """Print the version.

    For example: sendrs version
    """
    print(f"sendrs {version_of('sendrs')} (Python {platform.python_version()})")
    return ExitCode.OK
