"""The fast half of the header scan: elements of the outermost level that are skipped, or short and kept whole.

This is the inner loop of receiving: no calls, no objects but the kept ones. What is not plain is left to the walk.
"""

from __future__ import annotations

from router.dicom.attributes import vr_of
from router.dicom.elements import Element
from router.dicom.encoding import UNDEFINED_LENGTH
from router.dicom.walk import Walk


def skim_explicit(walk: Walk, data: bytes, pos: int) -> int:
    """Hurry on to the next element that is for `Walk.read_element`, or as far as the data go; give its position."""
    encoding, tree, elements = walk.encoding, walk.tree, walk.elements
    head, length_of, short, long = encoding.head, encoding.length, encoding.short, encoding.long
    last, size, value_bytes = walk.last, len(data), walk.limits.value_bytes
    kept_left, odd = walk.kept_left, 0
    for left in range(walk.left, -1, -1):
        if size - pos < 8:
            walk.need = 8
            break
        group, element, code, length = head(data, pos)
        tag = group << 16 | element
        if tag > last or not left:
            break
        if code in short:
            after = pos + 8 + length
            if tag in tree:
                if after > size or length > value_bytes or length > kept_left or tag in elements or tree[tag]:
                    break
                kept_left -= length
                elements[tag] = Element(short[code], data[pos + 8 : after])
        elif code in long and tag not in tree:
            if size - pos < 12:
                walk.need = 12
                break
            (length,) = length_of(data, pos + 8)
            if length == UNDEFINED_LENGTH:
                break
            after = pos + 12 + length
        else:
            break
        odd |= length
        pos = after
    walk.left, walk.kept_left = left, kept_left
    if odd & 1:
        walk.odd_length = True
    return pos


def skim_implicit(walk: Walk, data: bytes, pos: int) -> int:
    """Do what `skim_explicit` does, for Implicit VR."""
    plain, tree, elements = walk.encoding.plain, walk.tree, walk.elements
    last, size, value_bytes = walk.last, len(data), walk.limits.value_bytes
    kept_left, odd = walk.kept_left, 0
    for left in range(walk.left, -1, -1):
        if size - pos < 8:
            walk.need = 8
            break
        group, element, length = plain(data, pos)
        tag = group << 16 | element
        if tag > last or not left or length == UNDEFINED_LENGTH:
            break
        after = pos + 8 + length
        if tag in tree:
            if after > size or length > value_bytes or length > kept_left or tag in elements or tree[tag]:
                break
            vr = vr_of(tag)
            if vr == "SQ":
                break
            kept_left -= length
            elements[tag] = Element(vr, data[pos + 8 : after])
        odd |= length
        pos = after
    walk.left, walk.kept_left = left, kept_left
    if odd & 1:
        walk.odd_length = True
    return pos
