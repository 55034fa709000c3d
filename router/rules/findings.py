"""What is wrong, or merely odd, in one rule file, with the line it stands on."""

from __future__ import annotations

from functools import cached_property

from router.config.locate import KeyLines
from router.errors import ConfigError

Place = tuple[str | int, ...]
"""Keys and indexes from the top of the file: ("rule", 1, "match", "Modality")."""


class Findings:
    """Collects the errors and warnings of one file; reading goes on after each, so that all are found in one pass."""

    def __init__(self, file: str, text: str):
        self.file = file
        self.errors: list[ConfigError] = []
        self.warnings: list[ConfigError] = []
        self.rule_names: dict[int, str] = {}
        self._text = text

    def error(self, place: Place, problem: str, *, allowed: str = "", hint: str = "") -> None:
        """Note something that makes the file unusable."""
        self.errors.append(self._finding(place, problem, allowed, hint))

    def warn(self, place: Place, problem: str, *, hint: str = "") -> None:
        """Note something that is allowed but seldom meant."""
        self.warnings.append(self._finding(place, problem, "", hint))

    def line(self, place: Place) -> int | None:
        """Give the line of a key, or of the table around it."""
        return self._lines.locate(place)

    @cached_property
    def _lines(self) -> KeyLines:
        return KeyLines(self._text)

    def _finding(self, place: Place, problem: str, allowed: str, hint: str) -> ConfigError:
        return ConfigError(self.file, self._where(place), problem, allowed, hint, self.line(place))

    def _where(self, place: Place) -> str:
        if len(place) < 2 or not isinstance(place[1], int):
            return ".".join(map(str, place))
        name = self.rule_names.get(place[1])
        rule = f'rule "{name}"' if name else f"rule number {place[1] + 1}"
        rest = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place[2:]).lstrip(".")
        return f"{rule}: {rest}" if rest else rule
