"""What sendrs ships for people to copy: the default configuration and the rule files. Read only; standard library only.

A wheel carries them in this folder (pyproject.toml, force-include); a checkout has them at its top.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Final, Literal

_HERE: Final = Path(__file__).resolve().parent
_PLACES: Final = (_HERE, _HERE.parents[1])


def shipped(name: Literal["router.toml", "rules"]) -> Path:
    """Give the path of the default `router.toml`, or of the folder of `rules`.

    Raises FileNotFoundError naming it when this installation lacks it.
    """
    for place in _PLACES:
        if (place / name).exists():
            return place / name
    problem = "this installation of sendrs is not whole, install it again; missing"
    raise FileNotFoundError(errno.ENOENT, problem, str(_HERE / name))
