"""`sendrs demo`: the daemon with a temporary state, two receivers behind it, sample studies through it, and the proof that nothing changed.

The daemon is the real one, a process of its own started as `sendrs serve`; senders and receivers live in this process.
"""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import anyio.abc
import anyio.to_thread
import typer
from pydicom import dcmread
from rich.console import Console
from rich.live import Live
from rich.table import Table

from router.app import serve_http
from router.cli.receivers import FolderDoor
from router.cli.samples import ct_series, wheel_files
from router.config.model import Config, DicomConfig, DimseDestination, HttpConfig, Listen, StowDestination
from router.delivery.cstore import CStoreCourier
from router.delivery.stow import StowCourier
from router.dicom.envelope import Declared
from router.dicom.part10 import PrefaceReader
from router.dicom.transfer_syntax import is_web_transferable, name_of
from router.dicom.uids import AETitle, Uid
from router.journal.journal import open_readonly
from router.journal.overview import DestinationOverview, destinations
from router.journal.records import Delivery
from router.scp.server import StorageScp
from router.sending.courier import Courier, Outcome, Verdict
from router.store.files import Store
from router.web.app import make_app
