"""Tells archives from other files, and opens them."""

from __future__ import annotations

import gzip
from pathlib import Path

from medmtl.data.dicom.members import SUFFIXES, Archive, ArchiveError, Limits
from medmtl.data.dicom.tars import open_tar
from medmtl.data.dicom.zips import open_zip

_MAGIC = {b"PK\3\4": "zip", b"PK\5\6": "zip", b"\x1f\x8b": "gz", b"BZh": "bz2", b"\xfd7zXZ\0": "xz"}
_TAR_MAGIC_AT = 257
_BLOCK = 512


def has_archive_name(name: str) -> bool:
    """Whether a file is called like an archive that can be opened."""
    return name.lower().endswith(SUFFIXES)


def kind_of_archive(path: Path) -> str | None:
    """``zip``, ``tar``, ``gz``, ``bz2`` or ``xz`` (a compressed tar), by content; None for any other file."""
    try:
        with path.open("rb") as file:
            first = file.read(_BLOCK)
    except OSError:
        return None
    if first[128:132] == b"DICM":
        return None
    kind = next((kind for magic, kind in _MAGIC.items() if first.startswith(magic)), None)
    if kind is None:
        return "tar" if first[_TAR_MAGIC_AT:].startswith(b"ustar") else None
    if kind == "gz" and not has_archive_name(path.name):
        return kind if _holds_a_tar(path) else None  # a compressed image, say
    return kind


def open_archive(path: Path, label: str, limits: Limits | None = None) -> Archive:
    """Files in a zip or tar archive.

    Args:
        path: where it is.
        label: its name in messages, and what its members' labels start with.
        limits: what it may make us do.

    Raises:
        ArchiveError: it is none, or is not opened; the message says why.
        OSError: it cannot be read.
    """
    limits = limits or Limits()
    kind = kind_of_archive(path)
    if kind is None:
        raise ArchiveError(f"{label} is no archive that medmtl can open; unpack it yourself")
    try:
        return open_zip(path, label, limits) if kind == "zip" else open_tar(path, label, kind, limits)
    except MemoryError as error:
        raise ArchiveError(f"{label} needs more memory than there is; unpack it yourself") from error


def _holds_a_tar(path: Path) -> bool:
    try:
        with gzip.open(path) as file:
            return file.read(_BLOCK)[_TAR_MAGIC_AT:].startswith(b"ustar")
    except (OSError, EOFError, ValueError):
        return False
