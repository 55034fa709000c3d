"""Whether the state folder can keep the durability promise (D14, B106): filesystem, who may write, free space."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from pathlib import Path

from router.config.forms import show_size
from router.config.locate import locate
from router.config.model import Config
from router.errors import ConfigError

MOUNTS = Path("/proc/self/mounts")

UNSAFE_FILESYSTEMS = {
    "tmpfs": "lives in memory",
    "ramfs": "lives in memory",
    "overlay": "is a container's own layer, which goes with the container: mount a volume",
    "aufs": "is a container's own layer, which goes with the container: mount a volume",
    "nfs": "is a network filesystem",
    "nfs4": "is a network filesystem",
    "cifs": "is a network filesystem",
    "smb3": "is a network filesystem",
    "9p": "is a folder of the host, shared with a virtual machine",
    "virtiofs": "is a folder of the host, shared with a virtual machine",
    "vboxsf": "is a folder of the host, shared with a virtual machine",
    "vfat": "has no journal",
    "msdos": "has no journal",
    "exfat": "has no journal",
}
"""Where a flush does not put the data on a disk of this machine, or a power cut can damage the folder itself."""

_OCTAL = re.compile(r"\\([0-7]{3})")


def check_state_folder(config: Config, *, mounts: Path = MOUNTS) -> list[ConfigError]:
    """Find what speaks against the state folder; [] when nothing does. Creates nothing."""
    folder = config.state.path
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    problems = []
    if not existing.is_dir():
        problems.append(("path", f"{existing} is a file, not a folder", ""))
    elif not os.access(existing, os.W_OK | os.X_OK):
        problems.append(("path", *_not_writable(folder, existing)))
    else:
        problems += _no_room(config, folder, existing)
    if not config.state.unsafe_filesystem:
        problems += _unsafe(existing, mounts)
    return [_error(config, key, problem, hint) for key, problem, hint in problems]


def filesystem_of(path: Path, *, mounts: Path = MOUNTS) -> str:
    """Give the type of the filesystem on which `path` stands, "" when it cannot be told."""
    resolved = path.resolve()
    found, longest = "", -1
    try:
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        place = Path(_OCTAL.sub(lambda octal: chr(int(octal[1], 8)), fields[1]))
        if resolved.is_relative_to(place) and len(place.parts) >= longest:
            found, longest = fields[2], len(place.parts)
    return found


def _unsafe(existing: Path, mounts: Path) -> list[tuple[str, str, str]]:
    kind = filesystem_of(existing, mounts=mounts)
    reason = UNSAFE_FILESYSTEMS.get(kind, "belongs to a program" if kind.startswith("fuse.") else "")
    if not reason:
        return []
    problem = f"{existing} is on {kind}, which {reason}: acknowledged instances could be lost"
    return [("path", problem, "use a local disk (ext4, XFS), or set unsafe_filesystem = true to accept the risk")]


def _not_writable(folder: Path, existing: Path) -> tuple[str, str]:
    user = os.geteuid()
    if existing == folder:
        owner = folder.stat().st_uid
        return f"{folder} belongs to user {owner} and cannot be written to by user {user}", f"chown -R {user} {folder}"
    hint = f"install -d -m 750 -o {user} {folder}"
    return f"{folder} does not exist and user {user} cannot create it in {existing}", hint


def _no_room(config: Config, folder: Path, existing: Path) -> list[tuple[str, str, str]]:
    """Ask for free space of a new state folder only: one in use must be let start, to deliver what it holds."""
    if existing == folder and any(folder.iterdir()):
        return []
    free = shutil.disk_usage(existing).free
    if free >= config.state.min_free_bytes:
        return []
    asked = show_size(config.state.min_free_bytes)
    problem = f"{asked} are to stay free, and {existing} has {free / 1024**3:.2f} GiB: nothing could be received"
    return [("min_free_bytes", problem, "make room, choose another disk, or lower it")]


def _error(config: Config, key: str, problem: str, hint: str) -> ConfigError:
    line = None
    with contextlib.suppress(OSError):
        line = locate(config.file.read_text("utf-8-sig", "replace"), ("state", key))
    return ConfigError(str(config.file), f"[state] {key}", problem, hint=hint, line=line)
