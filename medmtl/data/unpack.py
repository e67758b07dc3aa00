"""Archives of data sets, unpacked for as long as they are read. DICOM is read from archives as it is."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from medmtl.data.dicom.archives import kind_of_archive, open_archive
from medmtl.data.dicom.contours import is_contour_name
from medmtl.data.dicom.members import SUFFIXES, ArchiveError
from medmtl.data.formats.base import DatasetFormat
from medmtl.data.formats.dicom import Dicom
from medmtl.types import DatasetError


@contextmanager
def unpacked(sources: Sequence[Path], format: str | DatasetFormat) -> Iterator[list[Path]]:
    """The sources, with a folder in the place of every archive that holds no DICOM.

    Args:
        sources: folders, files and archives.
        format: as for `ingest`.

    Raises:
        DatasetError: an archive cannot be opened, or is larger than any real one; what it may make us do is
            bounded as in ``medmtl.data.dicom.members``.
    """
    with tempfile.TemporaryDirectory(prefix="medmtl-") as workspace:
        yield [
            _extracted(source, Path(workspace) / str(number)) if _is_packed(source, format) else source
            for number, source in enumerate(sources)
        ]


def _is_packed(source: Path, format: str | DatasetFormat) -> bool:
    if isinstance(format, Dicom) or format == "dicom" or not source.is_file():
        return False
    if source.name.lower().endswith((".nii.gz", ".csv", ".tsv")) or kind_of_archive(source) is None:
        return False
    return format != "auto" or Dicom().recognizes(source) is None or _has_contours(source)


def _has_contours(source: Path) -> bool:
    """Whether an archive holds more than DICOM: contour files, which only a folder's format reads."""
    try:
        members = open_archive(source, source.name).members
    except (ArchiveError, OSError):
        return False  # reading it as DICOM says what is wrong with it
    return any(is_contour_name(member.name.rpartition("/")[2]) for member in members)


def _extracted(source: Path, workspace: Path) -> Path:
    """A folder with an archive's files, named like the archive."""
    name = next(
        (source.name[: -len(end)] for end in SUFFIXES if source.name.lower().endswith(end)), source.name
    )
    folder = workspace / (name or "archive")
    try:
        for member in open_archive(source, source.name).members:
            path = folder / member.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(member.read())
    except ArchiveError as error:
        raise DatasetError(f"{source}: {error}") from error
    except OSError as error:
        raise DatasetError(f"{source}: cannot be unpacked ({error.strerror or error})") from error
    if not folder.is_dir():
        raise DatasetError(f"{source}: is an empty archive; copy it again")
    return folder
