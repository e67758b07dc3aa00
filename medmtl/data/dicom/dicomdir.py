"""The table of contents of a medium: which files it promises, and which of them are not there.

What it says about its files is not used: the files say it themselves.

Source: DICOM PS3.10 section 8, PS3.3 annex F.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from medmtl.data.dicom.files import printable
from medmtl.data.dicom.header import Header
from medmtl.data.dicom.model import Source
from medmtl.data.dicom.opened import NotDicomError, UnreadableError, open_source
from medmtl.data.dicom.tally import Tally
from medmtl.types import Finding


def is_directory(header: Header) -> bool:
    """Whether a file is a DICOMDIR, by whatever name."""
    return header.has("DirectoryRecordSequence")


def referenced_files(header: Header) -> list[tuple[str, ...]]:
    """Paths of the files that a DICOMDIR refers to, below its folder, as names of folders and file."""
    records = header.get("DirectoryRecordSequence") or ()
    return [names for record in records if (names := record.get("ReferencedFileID"))]


def broken_references(source: Source, folder: Path) -> list[Finding]:
    """What a DICOMDIR promises and its folder does not hold, as one finding.

    Args:
        source: the DICOMDIR.
        folder: where it is.
    """
    try:
        header = open_source(source).instance.header
    except (NotDicomError, UnreadableError, OSError) as error:
        message = (
            f"{source.label} cannot be understood ({error}); the files beside it were looked at all the same"
        )
        return [Finding("UNDECODABLE", "warning", message, source.label)]
    listings: dict[Path, dict[str, str]] = {}
    missing = [names for names in referenced_files(header) if not _is_there(folder, names, listings)]
    if not missing:
        return []
    tally = Tally("/".join(map(printable, names)) for names in missing)
    missed = tally.of("file that is", "files that are")
    message = f"{source.label} refers to {missed} not there: {tally.examples()}; copy the whole medium again"
    return [Finding("TRUNCATED", "warning", message, source.label)]


def _is_there(folder: Path, names: tuple[str, ...], listings: dict[Path, dict[str, str]]) -> bool:
    """Whether a referenced file exists; media are often copied with their names in lower case."""
    here = folder
    for name in names:
        if PurePosixPath(name).name != name or name in ("", ".", ".."):
            return False  # such a name leads elsewhere
        if here not in listings:
            listings[here] = _listing(here)
        if (found := listings[here].get(name.upper())) is None:
            return False
        here = here / found
    return here.is_file()


def _listing(folder: Path) -> dict[str, str]:
    """Names in a folder by their capitals."""
    try:
        return {entry.name.upper(): entry.name for entry in folder.iterdir()}
    except OSError:
        return {}
