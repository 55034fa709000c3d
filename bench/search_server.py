"""The QIDO-RS front over one state folder, as a process: `python -m bench.search_server PORT FOLDER`.

Not the daemon: its sweep would look for the files of an index that was filled without any.
"""

from __future__ import annotations

import sys
from pathlib import Path

import anyio

from router.cli.receivers import FolderDoor
from router.config.model import HttpConfig, Listen
from router.http_server import serve_http
from router.journal.journal import Journal
from router.search import Index
from router.store.files import Store
from router.web.app import make_app
from router.web.search import search_routes


async def main(port: int, state: Path) -> None:
    config = HttpConfig(listen=Listen("127.0.0.1", port))
    async with Journal.open(state) as journal, Store.open(state) as store:
        routes = search_routes(config.base_path, Index(journal, store))
        app = make_app(config, FolderDoor(state / "not-used"), services=routes)
        await serve_http(app, config.listen, anyio.Event())


if __name__ == "__main__":
    anyio.run(main, int(sys.argv[1]), Path(sys.argv[2]))
