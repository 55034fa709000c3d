"""What rules see of one instance: its header, each attribute read once, and whether what was read can be relied on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from router.dicom.attributes import AttributePath
from router.dicom.header import Header

UNREADABLE = "\ufffd"
"""Stands in a text for bytes that its character set does not have."""


class Reading:
    """A header (or an item of a sequence in it) as the conditions of all rules look at it. It lives for one decision."""

    __slots__ = ("_header", "_root", "_texts", "is_suspect")

    def __init__(self, header: Header, root: Reading | None = None):
        self._header = header
        self._root = root or self
        self._texts: dict[AttributePath, tuple[str, ...]] = {}
        self.is_suspect = header.problem is not None
        """Something in it could not be read: only then is it worth asking `doubts`."""

    def texts(self, path: AttributePath) -> tuple[str, ...]:
        """Give the values at `path`."""
        texts = self._texts.get(path)
        if texts is None:
            texts = self._texts[path] = self._header.texts(path)
            for text in texts:
                if UNREADABLE in text:
                    self._root.is_suspect = True
        return texts

    def items(self, tag: int) -> Sequence[Reading]:
        """Give the items of a sequence."""
        return [Reading(item, self._root) for item in self._header.items(tag)]

    def present(self, path: AttributePath) -> bool:
        """Say whether the attribute stands in the data set, be it empty."""
        return self._header.present(path)

    def doubts(self, paths: Iterable[AttributePath]) -> AttributePath | None:
        """Give the first of `paths` (from the data set itself) that may have a value which could not be read."""
        is_cut = self._header.problem is not None
        for path in paths:
            texts = self._header.texts(path)
            if any(UNREADABLE in text for text in texts) or (is_cut and not any(texts)):
                return path
        return None
