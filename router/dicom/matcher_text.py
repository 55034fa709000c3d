"""Text compared as PS3.4 §C.2.2.2 wants it: `*` and `?`, and the folding of person names. Knows no data set, no key."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

MAX_PATTERN_CHARACTERS = 1024
"""A key with wild cards may be so long: sixteen times the longest LO. A test costs at most pattern times text."""

_ALL_CARETS = "^^^^"
"""A name group has five components; the carets of empty ones at its end are not written (PS3.5 §6.2.1.1)."""


def is_wild(text: str) -> bool:
    """Say whether `text` has a wild card."""
    return "*" in text or "?" in text


def wildcard_test(pattern: str) -> Callable[[str], bool]:
    """Compile `pattern`: `*` stands for any text, also none, and `?` for any one character; all else for itself.

    The pieces between asterisks are looked for from left to right, each at its first place. There is no way back to
    take, so no pattern and no text makes it slow.
    """
    head, *others = pattern.split("*")
    if not others:
        whole = _piece(head)
        return lambda text: whole.fullmatch(text) is not None
    *inner, tail = others
    inner = [piece for piece in inner if piece]
    if "?" not in pattern and not inner:
        shortest = len(head) + len(tail)
        return lambda text: text.startswith(head) and text.endswith(tail) and len(text) >= shortest
    if "?" not in pattern and not head and not tail and len(inner) == 1:
        only = inner[0]
        return lambda text: only in text
    return _pieces_test(head, inner, tail)


def _pieces_test(head: str, inner: list[str], tail: str) -> Callable[[str], bool]:
    first, between, last = _piece(head), [_piece(piece) for piece in inner], _piece(tail)

    def test(text: str) -> bool:
        at, end = len(head), len(text) - len(tail)
        if end < at or not first.match(text) or not last.match(text, end):
            return False
        for piece in between:
            found = piece.search(text, at, end)
            if found is None:
                return False
            at = found.end()
        return True

    return test


def _piece(text: str) -> re.Pattern[str]:
    """Compile text of fixed length, in which only `?` is special."""
    return re.compile("".join("." if char == "?" else re.escape(char) for char in text), re.DOTALL)


def fold_name_groups(text: str) -> tuple[str, ...]:
    """Split a PN into its groups (alphabetic, ideographic, phonetic), folded so that equal names are equal text.

    Folded away: case, Unicode composition, spaces around components, carets at the end. Accents stay: É is not E.
    """
    return tuple(_fold_group(group) for group in text.split("="))


def _fold_group(group: str) -> str:
    folded = group.lower() if group.isascii() else unicodedata.normalize("NFC", group).casefold()
    if "^" not in folded:
        return folded.strip()
    return "^".join([component.strip() for component in folded.split("^")]).rstrip("^")


def whole_name(text: str) -> str:
    """Fold a PN into one text."""
    return "=".join(fold_name_groups(text)).rstrip("=")


def name_group_test(pattern: str) -> Callable[[str], bool]:
    """Compile one folded component group of a PN key into a test of one folded group.

    `doe^*` also holds for `doe`, whose carets are merely not written.
    """
    if not is_wild(pattern):
        return lambda group: group == pattern
    test = wildcard_test(pattern)
    if "^" not in pattern:
        return test
    return lambda group: test(group) or test(group + _ALL_CARETS[group.count("^") :])
