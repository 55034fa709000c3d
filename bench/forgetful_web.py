"""The HTTP front alone, as a process: `python -m bench.forgetful_web PORT` takes STOW-RS requests and keeps nothing of
them. What Hypercorn, Starlette and the interpreter cost, before any file is written, flushed or journalled.
"""

from __future__ import annotations

import sys

import anyio

from bench.forgetful_scp import Forgetful
from router.config.model import HttpConfig, Listen
from router.http_server import serve_http
from router.web.app import make_app


async def main(port: int) -> None:
    config = HttpConfig(listen=Listen("127.0.0.1", port))
    await serve_http(make_app(config, Forgetful()), config.listen, anyio.Event())


if __name__ == "__main__":
    anyio.run(main, int(sys.argv[1]))
