"""Opens one DICOM file: the fast way where that is possible, and the sure way where not."""

from __future__ import annotations

from typing import NamedTuple

from medmtl.data.dicom.by_pydicom import read_slowly
from medmtl.data.dicom.files import FileSource, InflatedSource, InflationError, SeekableSource
from medmtl.data.dicom.model import Instance, Source
from medmtl.data.dicom.plain import BLOCK, Meta, Read, file_meta, looks_like_a_data_set, walk_file
from medmtl.data.dicom.syntaxes import DEFLATED, EXPLICIT
from medmtl.data.dicom.template import Templates
from medmtl.data.dicom.wanted import StrangeError

_PREAMBLE = 132
_SURE_SIGNS = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "Modality",
    "Rows",
    "DirectoryRecordSequence",
)


class NotDicomError(Exception):
    """Neither a preamble nor anything that looks like a data set."""


class UnreadableError(Exception):
    """A DICOM file that not even pydicom understands; the message says what is wrong with it."""


class Opened(NamedTuple):
    """A file whose header was read.

    Attributes:
        instance: the file.
        size: in bytes; of the inflated file, where it is deflated.
        cut: it ends within its header.
    """

    instance: Instance
    size: int
    cut: bool


def open_source(source: Source, templates: Templates | None = None) -> Opened:
    """Read a file's header, the fast way where that is possible, and the sure way where not.

    Args:
        source: its bytes.
        templates: what was learned of files like it; learns.

    Raises:
        NotDicomError: this is no DICOM file.
        UnreadableError: it is one, and broken.
        OSError: it cannot be read.
    """
    if isinstance(source, FileSource):
        with source.opened() as file:
            return _open(source, file.read, file.size, templates)
    return _open(source, source.read, source.size(), templates)


def _open(source: Source, read: Read, size: int, templates: Templates | None) -> Opened:
    first = read(0, BLOCK)
    start = _PREAMBLE if first[128:132] == b"DICM" else 0
    if not start and not looks_like_a_data_set(first[:8]):
        raise NotDicomError
    if templates is not None and start and (plain := templates.read(read, first)) is not None:
        return Opened(Instance(source, plain.header, plain.transfer_syntax, plain.pixels), size, plain.cut)
    try:
        meta = file_meta(first, start)
        if meta.syntax == DEFLATED:
            return _open_inflated(source, first, meta)
        plain = walk_file(read, size, first, meta)
        opened = Opened(Instance(source, plain.header, plain.transfer_syntax, plain.pixels), size, plain.cut)
        if templates is not None and start:
            templates.learn(read, plain, meta.end)
    except StrangeError:
        slow = read_slowly(SeekableSource(read, size))
        if slow is None:
            raise UnreadableError("is no plain DICOM, and pydicom does not understand it either") from None
        opened = Opened(Instance(source, *slow), size, cut=False)
    if not any(opened.instance.header.has(sign) for sign in _SURE_SIGNS):
        if start:
            raise UnreadableError("says that it is DICOM, but holds nothing that can be understood")
        raise NotDicomError
    return opened


def _open_inflated(source: Source, first: bytes, meta: Meta) -> Opened:
    plain = EXPLICIT.encode().ljust(len(DEFLATED), b"\0")
    inflated = InflatedSource(source, first[: meta.at] + plain + first[meta.at + len(plain) : meta.end])
    try:
        return open_source(inflated)
    except InflationError as error:
        raise UnreadableError(str(error)) from error
