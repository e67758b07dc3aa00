"""Names of studies: their UIDs, made safe for files, or keyed hashes of them."""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, field

_HEX = 16
_LONGEST = 64
"""Characters of a UID (DICOM PS3.5, 9.1)."""


@dataclass(frozen=True)
class Pseudonyms:
    """Names that only the holder of a key can trace back, and that are the same every time.

    Attributes:
        key: what is kept secret; None keeps names as they are.
    """

    key: bytes | None = field(default=None, repr=False)

    def of(self, uid: str) -> str:
        """16 hexadecimal digits of HMAC-SHA256 (FIPS 198-1), or the UID itself where there is no key."""
        if self.key is None or not uid:
            return uid
        return hmac.new(self.key, uid.encode(), hashlib.sha256).hexdigest()[:_HEX]

    def folder(self, uid: str) -> str:
        """The same as the name of a folder."""
        return safe_name(uid) if self.key is None else self.of(uid)


def safe_name(uid: str) -> str:
    """A UID as the name of a folder: itself where it is one, else with a digest that keeps it apart."""
    if re.fullmatch(r"[0-9][0-9.]*[0-9]|[0-9]", uid) and len(uid) <= _LONGEST:
        return uid
    kept = re.sub(r"[^0-9A-Za-z.-]+", "-", uid)[: _LONGEST // 2].strip(".-")
    return f"{kept or 'study'}-{digest(uid)}"


def digest(text: str) -> str:
    """Ten hexadecimal digits that stand for a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:10]
