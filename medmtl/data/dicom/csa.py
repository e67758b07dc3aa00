"""The header that Siemens keeps in a private element of its MR images (CSA, versions 1 and 2).

Layout: a count of fields, then per field a name of 64 bytes, a count of items and for each item its length
and text, padded to four bytes. Read with bounds everywhere: it comes from a file.
"""

from __future__ import annotations

from struct import error as StructError
from struct import unpack_from

MOST_FIELDS = 1024
MOST_ITEMS = 4096


def read_csa(content: bytes) -> dict[str, tuple[str, ...]]:
    """Fields that have a value, as text; what follows a damaged field is left out."""
    version2 = content[:4] == b"SV10"
    at = 8 if version2 else 0
    fields: dict[str, tuple[str, ...]] = {}
    try:
        (count,) = unpack_from("<I", content, at)
        at += 8
        first_items = None
        for _ in range(min(count, MOST_FIELDS)):
            name, _, _, _, items, _ = unpack_from("<64si4s3i", content, at)
            at += 84
            if first_items is None:
                first_items = items
            if not 0 <= items <= MOST_ITEMS:
                break
            values = []
            for _ in range(items):
                lengths = unpack_from("<4i", content, at)
                at += 16
                # version 1 counts from the number of items of the first field
                length = lengths[1] if version2 else lengths[0] - first_items
                if not 0 <= length <= len(content) - at:
                    return fields
                text = content[at : at + length].split(b"\0", 1)[0].decode("latin-1").strip()
                if text:
                    values.append(text)
                at += length + -length % 4
            if values:
                fields[name.split(b"\0", 1)[0].decode("latin-1")] = tuple(values)
    except StructError:
        return fields
    return fields


def csa_numbers(fields: dict[str, tuple[str, ...]], name: str) -> tuple[float, ...]:
    """The numbers of a field; none where it is absent or is not made of numbers."""
    try:
        return tuple(float(value) for value in fields.get(name, ()))
    except ValueError:
        return ()
