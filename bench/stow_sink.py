"""A STOW-RS receiver that only writes files, as a process: `python -m bench.stow_sink PORT FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

import anyio

from router.cli.receivers import FolderDoor
from router.config.model import HttpConfig, Listen
from router.http_server import serve_http
from router.web.app import make_app


async def main(port: int, folder: Path) -> None:
    config = HttpConfig(listen=Listen("127.0.0.1", port))
    await serve_http(make_app(config, FolderDoor(folder)), config.listen, anyio.Event())


if __name__ == "__main__":
    anyio.run(main, int(sys.argv[1]), Path(sys.argv[2]))
